//! `auspex server`.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use auspex_plan::{Diagnostic, SqlState};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::settings::{Given, LogFormat, Settings};
use super::{EXIT_STORE_FAILED, report};
use crate::engine::Engine;
use crate::pg;

/// How often the store is asked whether it still works. It fails only when the disk does.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  auspex server
  auspex server --data-dir /var/lib/auspex --listen 127.0.0.1:5433
  auspex server --config auspex.toml --log-level debug
  AUSPEX_DATA_DIR=/tmp/a auspex server --listen 127.0.0.1:0

When the port is open, one line on standard output says so: `listening on 127.0.0.1:5433`.
SIGTERM and SIGINT (ctrl-c) stop the server in order. Only loopback addresses are allowed,
because clients are not authenticated yet. A flag wins over its environment variable, that over
the configuration file.";

/// Runs the database server
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServerArguments {
    /// TOML file with settings; docs/auspex.toml shows every key
    #[arg(long, env = "AUSPEX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

pub(super) fn run(arguments: ServerArguments) -> ExitCode {
    let file = match &arguments.config {
        None => Ok(Given::default()),
        Some(path) => Given::read(path),
    };
    let settings = match file.and_then(|file| arguments.given.over(file)) {
        Ok(settings) => settings,
        Err(error) => return report::fail(&error),
    };
    if let Err(error) = start_log(&settings) {
        return report::fail(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::fail(&format!("cannot start threads: {error}")),
    };
    let code = match runtime.block_on(serve(&settings)) {
        Ok(code) => code,
        Err(error) => report::fail_diagnostic(&error),
    };
    // What blocks for ever (a read from a disk that hangs) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Lines of the log go to standard error.
fn start_log(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|e| format!("`log_level` is not a log filter: {e}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|e| format!("cannot start the log: {e}"))
}

async fn serve(settings: &Settings) -> Result<ExitCode, Diagnostic> {
    let address = address(&settings.listen).await?;
    // Before the port is open, so that whoever saw it open can stop the server.
    let mut signals = Signals::new()?;
    let engine = Engine::open(settings.engine()).map_err(|e| opening(e, settings))?;
    let listener = TcpListener::bind(address).await.map_err(|e| listening(&e, address))?;
    let address = listener.local_addr().map_err(|e| listening(&e, address))?;
    announce(address)?;
    let (stop, stopped) = watch::channel(false);
    let mut sessions =
        tokio::spawn(pg::serve(engine.clone(), listener, settings.limits(), stopped));
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = store_failure(&engine) => Some(failure),
        ended = &mut sessions => {
            // It only returns by itself when it cannot work.
            ended.map_err(|e| internal(&e))??;
            return Err(Diagnostic::error(SqlState::INTERNAL_ERROR, "the listener has ended"));
        }
    };
    let _ = stop.send(true);
    if let Some(failure) = failure {
        tracing::error!(error = %failure, "the store has failed; stopping");
        let _ = sessions.await;
        report::fail_diagnostic(&failure);
        return Ok(ExitCode::from(EXIT_STORE_FAILED));
    }
    tracing::info!("stopping");
    sessions.await.map_err(|e| internal(&e))??;
    engine.shutdown().await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The address meant by `HOST:PORT`; every address of the host must be on this machine.
async fn address(listen: &str) -> Result<SocketAddr, Diagnostic> {
    let wrong = |reason: String| {
        Diagnostic::error(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("cannot listen on `{listen}`: {reason}"),
        )
        .hint("An address looks like 127.0.0.1:5433, [::1]:5433 or localhost:5433.")
    };
    let found = tokio::net::lookup_host(listen).await.map_err(|e| wrong(e.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    for address in &found {
        pg::check_address(address)?;
    }
    let first = found.iter().find(|a| a.is_ipv4()).or(found.first()).copied();
    first.ok_or_else(|| wrong("the host has no address".to_owned()))
}

/// The one line on standard output, and for people how to connect.
fn announce(address: SocketAddr) -> Result<(), Diagnostic> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}").and_then(|()| out.flush()).map_err(|e| {
        Diagnostic::error(SqlState::IO_ERROR, format!("cannot write to standard output: {e}"))
    })?;
    eprintln!("connect with: psql -h {} -p {} -U auspex auspex", address.ip(), address.port());
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Diagnostic> {
        let wrong = |e: io::Error| {
            Diagnostic::error(SqlState::INTERNAL_ERROR, format!("cannot receive signals: {e}"))
        };
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(wrong)?,
            interrupt: signal(SignalKind::interrupt()).map_err(wrong)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns when the store accepts nothing more.
async fn store_failure(engine: &Arc<Engine>) -> Diagnostic {
    let mut tick = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        tick.tick().await;
        if let Some(failure) = engine.failure() {
            return failure;
        }
    }
}

fn opening(error: Diagnostic, settings: &Settings) -> Diagnostic {
    let reason = error.message.strip_prefix("could not read: ").unwrap_or(&error.message);
    let hint = reason
        .contains("in use by another process")
        .then(|| "Stop the other server, or choose another directory with --data-dir.".to_owned());
    let message = format!("cannot open {}: {reason}", settings.data_dir.display());
    Diagnostic { message, hint: hint.or(error.hint), ..error }
}

fn listening(error: &io::Error, address: SocketAddr) -> Diagnostic {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Another process listens there: stop it, or choose another port with --listen."
        }
        io::ErrorKind::PermissionDenied => "Ports below 1024 need privileges: choose another one.",
        _ => "Choose another address with --listen.",
    };
    Diagnostic::error(SqlState::IO_ERROR, format!("cannot listen on {address}: {error}")).hint(hint)
}

fn internal(error: &tokio::task::JoinError) -> Diagnostic {
    Diagnostic::error(SqlState::INTERNAL_ERROR, format!("the listener has ended: {error}"))
}
