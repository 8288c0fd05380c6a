//! A component on trial: loaded without a host and without a data directory, for its author.

use std::sync::Arc;

use super::{
    Auth, Component, EngineError, LoadError, Manifest, Runtime,
    engine::{self, Machine},
};

/// Guests that live at the same time: those of one session, and one more.
const GUESTS: u32 = 4;

/// Why a component cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The machine cannot run guests.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The component is refused, as a host would.
    #[error(transparent)]
    Refused(#[from] LoadError),
}

/// A component that has described itself.
pub struct Trial {
    /// The component; under the manifest, or, where there is none, with all that it asks for.
    pub runtime: Arc<Runtime>,
    /// Where it claims what the manifest does not grant, each in words.
    pub mismatches: Vec<String>,
}

impl Trial {
    /// Compiles a component and asks it who it is. What it claims beyond its manifest is told and not refused, so that its
    /// author hears of everything at once.
    ///
    /// # Errors
    /// When it cannot be compiled, asks for another contract, or cannot describe itself.
    pub async fn start(component: &[u8], manifest: Option<Manifest>) -> Result<Self, TrialError> {
        let machine = engine::start(GUESTS)?;
        let Some(manifest) = manifest else { return Self::unlimited(&machine, component).await };
        let bytes = component;
        let component = Arc::new(Component::load(&machine, bytes, manifest)?);
        let description = component.describe().await.map_err(LoadError::from)?;
        let mismatches = component.manifest.mismatches(&description);
        Ok(Self { runtime: Arc::new(Runtime::new(component, bytes.len(), description)), mismatches })
    }

    /// Under a manifest that grants what the component says that it needs.
    async fn unlimited(machine: &Arc<Machine>, bytes: &[u8]) -> Result<Self, TrialError> {
        let unnamed = "component".parse().map_err(|_| LoadError::Manifest("no id".to_owned()))?;
        let auth = Auth { header: String::new(), scheme: String::new() };
        let mut component = Arc::new(Component::load(machine, bytes, Manifest::granting_all(unnamed, auth))?);
        let description = component.describe().await.map_err(LoadError::from)?;
        let auth = Auth { header: description.auth_header.clone(), scheme: description.auth_scheme.clone() };
        let mut mismatches = Vec::new();
        match (description.id.parse(), Arc::get_mut(&mut component)) {
            (Ok(id), Some(component)) => component.manifest = Manifest::granting_all(id, auth),
            _ => mismatches
                .push(format!("id: {:?} is none; use letters, digits, `_` and `-`, 1 to 64 of them", description.id)),
        }
        Ok(Self { runtime: Arc::new(Runtime::new(component, bytes.len(), description)), mismatches })
    }
}
