//! Components made for tests, out of the contract itself, and a loader for them.

use lap::runtime::{CacheKey, LoadError, Loader, LoaderSettings, Runtime};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// The manifest of the components that are made here.
pub const MANIFEST: &str = r#"
    id = "hostile"
    contract = "0.1"
    auth = { header = "x-api-key" }
    allow = [{ methods = ["GET"], path = "/v1" }]
"#;

/// A loader, and the folder of what it has compiled.
pub struct Workshop {
    pub loader: Loader,
    pub cache: TempDir,
}

impl Workshop {
    /// For `guests` guests at once.
    pub fn new(guests: u32) -> Self {
        Self::with_program(guests, env!("CARGO_BIN_EXE_lap"))
    }

    /// The same, where another program compiles.
    pub fn with_program(guests: u32, program: &str) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let settings = LoaderSettings {
            cache: cache.path(),
            key: CacheKey::of_this_process().unwrap(),
            guests,
            program: program.into(),
        };
        Self { loader: Loader::start(settings).unwrap(), cache }
    }

    /// Loads what a stranger has made.
    pub async fn load(&self, manifest: &str, component: &[u8]) -> Result<Runtime, LoadError> {
        self.loader.stranger(manifest.parse().unwrap(), component.to_vec()).await
    }
}

/// A component of the contract whose functions all do `body`, beside whatever else `items` defines.
pub fn component(items: &str, body: &str) -> Vec<u8> {
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/lap-runtime/0.1");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("runtime")).unwrap();
    let abi = ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync);
    let module = wasmprinter::print_bytes(dummy_module(&resolve, world, abi)).unwrap();
    let module = module.replace("unreachable", &format!("{body} unreachable"));
    let end = module.rfind(')').unwrap();
    let mut module = wat::parse_str(format!("{}{items})", &module[..end])).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}
