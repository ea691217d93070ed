//! `vouch manager`, `vouch node` and `vouch local-vm`: reads the configuration, sets up logging, runs until a signal.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use vouch_manager::ConfigError;

use crate::args::{ConfigArgs, LocalVmArgs, OptionalConfigArgs};
use crate::exit::{CliError, Exit};

/// Logs go to standard error, filtered by `VOUCH_LOG` (as `info,vouch_manager=debug`), as JSON with
/// `VOUCH_LOG_FORMAT=json`.
fn init_logging() {
    let filter = EnvFilter::try_from_env("VOUCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if std::env::var("VOUCH_LOG_FORMAT").is_ok_and(|format| format == "json") {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Returns what is wrong with a configuration, with its file.
pub fn config_error(path: &Path, e: impl std::error::Error + Send + Sync + 'static) -> CliError {
    let error = anyhow::Error::new(e);
    // Most of these errors name the file themselves.
    let named = error.chain().any(|cause| cause.to_string().contains(&*path.to_string_lossy()));
    let error = if named { error } else { error.context(format!("configuration {}", path.display())) };
    CliError::new(Exit::Config, error)
}

/// Runs a manager until SIGTERM or SIGINT.
///
/// # Errors
/// A wrong configuration (78), failed storage (74), or another reason not to start or go on.
pub fn manager(args: &ConfigArgs) -> Result<(), CliError> {
    let config = vouch_manager::Config::load(&args.config, |name| std::env::var(name).ok())
        .map_err(|e: ConfigError| config_error(&args.config, e))?;
    init_logging();
    runtime()?.block_on(async {
        vouch_manager::run(config, signalled()?).await.map_err(|e| {
            let exit = match (e.is_config(), e.is_storage()) {
                (true, _) => Exit::Config,
                (false, true) => Exit::Storage,
                (false, false) => Exit::Failed,
            };
            CliError::new(exit, e)
        })
    })
}

/// Returns a token that SIGTERM and SIGINT cancel.
fn signalled() -> Result<tokio_util::sync::CancellationToken, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = tokio_util::sync::CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.cancel();
    });
    Ok(stop)
}

/// Runs the agent of a compute node until SIGTERM or SIGINT.
///
/// # Errors
/// A wrong configuration (78), a cluster that has removed the node (5), or another reason not to start or go on.
pub fn node(args: &OptionalConfigArgs) -> Result<(), CliError> {
    let path = args.config.as_ref().ok_or_else(|| CliError::text(Exit::Failed, "--config FILE is missing"))?;
    let config = vouch_node::config::Config::load(path).map_err(|e| config_error(path, e))?;
    init_logging();
    runtime()?.block_on(vouch_node::run::run(config)).map_err(|e| {
        let exit = match (e.is_config(), e.is_removed()) {
            (true, _) => Exit::Config,
            (false, true) => Exit::Denied,
            (false, false) => Exit::Failed,
        };
        CliError::new(exit, e)
    })
}

/// Runs one VM of the driver `local`.
///
/// # Errors
/// When it cannot listen, or is told to panic.
pub fn local_vm(args: LocalVmArgs) -> Result<(), CliError> {
    let options = vouch_node::local_vm::LocalVmOptions {
        id: args.id,
        address: args.address,
        rdp_port: args.rdp_port,
        run_dir: args.run_dir,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(vouch_node::local_vm::run(options))?)
}
