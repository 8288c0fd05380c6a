//! Compiling a stranger's component, in a child process: how long and how much memory a compiler takes for bytes that
//! were made to take long, nobody can say before.
//!
//! The child is this program under the name [`COMMAND`]. It takes the component from its standard input, gives the machine
//! code to its standard output, and limits itself before it reads a byte: processor time, memory, no file, a low
//! priority. The parent limits its time and what it takes from it, and believes the machine code no more and no less than
//! one that it would have compiled itself.
//!
//! Its input is the component's length, in eight bytes with the largest first, and the component. The parent keeps the pipe
//! open as long as it wants the code: the child ends when it is closed, which it also is when the parent dies of whatever.
//! (A signal at the parent's death would be one at the death of the parent's *thread*, and an executor's come and go.)

use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};
use wasmtime::Engine;

use super::{engine, inspect::COMPONENT_BYTES_MAX};

/// The hidden command of this program that compiles.
pub const COMMAND: &str = "compile-component";

/// Processor time of one compilation. The largest honest component, which brings Python, takes less than half.
const CPU: Duration = Duration::from_mins(1);

/// Time of one compilation, with all its waiting for a processor.
const WALL: Duration = Duration::from_mins(3);

/// Address space of the child.
const MEMORY_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The most machine code that is taken. It is about twice as large as what it is made of.
const CODE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What is read of the child's complaints.
const COMPLAINT_BYTES_MAX: u64 = 4 * 1024;

/// How the child says that the component is at fault.
const EX_DATAERR: u8 = 65;

/// Low enough that nobody waits for a compiler, and not so low that it never ends on a busy machine.
const NICE: i32 = 10;

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses the component.
    #[error("not a WebAssembly component that this host can compile: {0}")]
    Refused(String),
    /// It is built to be slow, or much too large.
    #[error("compiling the component takes {0}: make its functions smaller and fewer")]
    Limit(&'static str),
    /// The compiler crashed. The text is for the log.
    #[error("the compiler crashed on the component; it was not taken, and nothing else is touched")]
    Crashed(String),
    /// The machine gave no process; nothing is wrong with the component, and a retry is safe.
    #[error("the host could not start its compiler; try again: {0}")]
    Unavailable(#[from] io::Error),
}

/// Compiles with `program`, which must be this program or a build of the same version.
pub(super) async fn in_child(program: &Path, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // Open until this function ends, however it does.
    let give = async {
        if let Some(stdin) = &mut stdin {
            let length = (component.len() as u64).to_be_bytes();
            let given = async {
                stdin.write_all(&length).await?;
                stdin.write_all(component).await
            };
            // A child that ends early says why in its own way.
            drop(given.await);
        }
    };
    let ends = async {
        let ((), code, complaint, status) =
            tokio::join!(give, take(stdout, CODE_BYTES_MAX + 1), take(stderr, COMPLAINT_BYTES_MAX), child.wait());
        Ok::<_, io::Error>((code?, complaint?, status?))
    };
    let Ok(ended) = timeout(WALL, ends).await else { return Err(CompileError::Limit("more than three minutes")) };
    let (code, complaint, status) = ended?;
    if code.len() as u64 > CODE_BYTES_MAX {
        return Err(CompileError::Limit("more than 128 MiB of machine code"));
    }
    verdict(status, &complaint).map_or(Ok(code), Err)
}

/// Reads at most so much; the pipe is closed behind that.
async fn take(pipe: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bytes_max).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn verdict(status: ExitStatus, complaint: &[u8]) -> Option<CompileError> {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let complaint: String = String::from_utf8_lossy(complaint).trim().chars().map(shown).collect();
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if status.success() {
        None
    } else if status.code() == Some(EX_DATAERR.into()) {
        Some(CompileError::Refused(complaint))
    } else if is(Signal::XCPU) || is(Signal::KILL) {
        Some(CompileError::Limit("more than its processor time, which is a minute"))
    } else if is(Signal::ABORT) && complaint.contains("memory allocation") {
        Some(CompileError::Limit("more than its memory, which is 2 GiB"))
    } else {
        Some(CompileError::Crashed(format!("{status}: {complaint}")))
    }
}

/// What the child does: all of the process, from its standard input to its exit code.
#[must_use]
pub fn child() -> ExitCode {
    let compiled = limit_this_process().and_then(|()| {
        let component = component()?;
        end_with_the_parent()?;
        let compiled = Engine::new(&engine::compiling()).and_then(|engine| engine.precompile_component(&component));
        match compiled {
            Ok(code) => io::stdout().lock().write_all(&code).map(|()| ExitCode::SUCCESS),
            Err(error) => {
                drop(writeln!(io::stderr(), "{error:#}"));
                Ok(EX_DATAERR.into())
            }
        }
    });
    compiled.unwrap_or_else(|error| {
        drop(writeln!(io::stderr(), "{error}"));
        ExitCode::FAILURE
    })
}

/// The component on the standard input.
fn component() -> io::Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let mut component = Vec::new();
    stdin.take(length.min(COMPONENT_BYTES_MAX as u64)).read_to_end(&mut component)?;
    if component.len() as u64 == length { Ok(component) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Ends this process as soon as nobody wants its code any more.
fn end_with_the_parent() -> io::Result<()> {
    // It calls two functions and keeps nothing: the address space is for the compiler.
    const STACK_BYTES: usize = 64 * 1024;
    let wait = || {
        // Nothing more comes: it returns when the pipe is closed.
        drop(io::stdin().lock().read(&mut [0]));
        // At once, whatever the compiler is at; nothing here is to be put in order.
        if kill_process(getpid(), Signal::KILL).is_err() {
            std::process::abort();
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(wait).map(drop)
}

fn limit_this_process() -> io::Result<()> {
    for (resource, most) in [
        (Resource::Cpu, CPU.as_secs()),
        (Resource::As, MEMORY_BYTES),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 16),
    ] {
        // An operator's own limit may be lower, and must not be raised.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |given| given.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::nice(NICE)?;
    Ok(())
}
