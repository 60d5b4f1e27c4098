//! `crashtest`: kill -9 at random moments under load, and what must be true afterwards.
//!
//! Parent: starts the server as a child process, starts clients, kills the child after 5 to 500 ms,
//! starts it again and checks. What clients were told is kept in a [`Model`]: a statement is
//! *acknowledged* (its rows must be there, once) or *open* (the connection broke before the
//! answer: its rows are there completely or not at all, and do not change their mind later).
//!
//! Checked after each start (module `check`):
//! * every acknowledged row is there, nothing is there twice, nothing appears that was not sent;
//! * a statement, a COPY, a transaction over two streams is there completely or not at all;
//! * each derived stream holds, at the same offsets, what recomputing it from its input gives;
//! * windows, joins and views (module `state`) hold, at the same offsets, what a server that was never
//!   interrupted makes of the same rows;
//! * what a subscriber saw before the kill is at the same offset after it;
//! * acknowledged DDL holds, in both directions; tables hold a value between the last acknowledged
//!   and the last sent.

mod check;
mod clients;
mod model;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::{Server, ServerError};
use crate::sql::describe;

pub use model::Model;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's binary.
    pub binary: PathBuf,
    /// Number of kills.
    pub cycles: u32,
    /// Start value of all random choices.
    pub seed: u64,
}

/// A broken promise, or the reason why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The server does not keep a promise.
    #[error("violation: {0}")]
    Violation(String),
    /// A statement of the checker failed.
    #[error("the checker's statement failed: {}", describe(.0))]
    Check(#[from] tokio_postgres::Error),
    /// The server does not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The machine.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Figures of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Kills.
    pub cycles: u32,
    /// Statements acknowledged and left open.
    pub acknowledged: u64,
    /// Statements without an answer.
    pub open: u64,
    /// Of these, the ones whose rows were there after all.
    pub open_applied: u64,
    /// Rows of the source streams at the end.
    pub rows: u64,
    /// Rows of the derived streams at the end.
    pub derived_rows: u64,
    /// Rows of windows, joins and views at the end.
    pub stateful_rows: u64,
    /// Rows seen by the subscriber before a kill and compared after it.
    pub seen: u64,
    /// Catalog changes acknowledged.
    pub ddl: u64,
    /// Longest time from start to open port.
    pub slowest_start: Duration,
}

/// Runs all cycles and the final check.
pub async fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Result<Summary, CrashError> {
    let folder = tempfile::tempdir()?;
    let outcome = run_in(plan, folder.path().join("data"), &mut progress).await;
    if outcome.is_err() {
        // The evidence.
        progress(&format!("the data directory is kept: {}", folder.keep().display()));
    }
    outcome
}

async fn run_in(
    plan: &Plan,
    data: PathBuf,
    progress: &mut impl FnMut(&str),
) -> Result<Summary, CrashError> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let model = Arc::new(Model::default());
    let mut summary = Summary { cycles: plan.cycles, ..Summary::default() };
    let mut checker = check::Checker::default();

    let start = |slowest: &mut Duration| {
        let began = Instant::now();
        let server = Server::start_with(&plan.binary, &data, &[] as &[&str])?;
        *slowest = (*slowest).max(began.elapsed());
        Ok::<_, CrashError>(server)
    };

    let server = start(&mut summary.slowest_start)?;
    clients::prepare(&server).await?;
    drop(server);

    for cycle in 1..=plan.cycles {
        let mut server = start(&mut summary.slowest_start)?;
        checker.check(&server, &model, &mut summary).await.map_err(|e| with_output(e, &server))?;
        let tasks = clients::start(&server, &model, random.random());
        let patience = Duration::from_millis(random.random_range(5..=500));
        tokio::time::sleep(patience).await;
        if !server.is_running() {
            let why = format!("the server ended by itself:\n{}", server.output());
            return Err(CrashError::Violation(why));
        }
        server.kill()?;
        for task in tasks {
            // A client that panics has found something that must not be.
            task.await.map_err(|e| CrashError::Violation(format!("a client: {e}")))?;
        }
        let (acknowledged, open) = model.answered();
        progress(&format!(
            "cycle {cycle}: killed after {patience:?}; {acknowledged} acknowledged, {open} open"
        ));
    }

    let mut server = start(&mut summary.slowest_start)?;
    checker.check(&server, &model, &mut summary).await.map_err(|e| with_output(e, &server))?;
    checker.check_all(&server, &mut summary).await.map_err(|e| with_output(e, &server))?;
    checker.check_stateful(&server, &plan.binary, &mut summary).await?;
    // An orderly stop must keep as much as a kill.
    if server.stop(Duration::from_secs(30))?.is_none() {
        return Err(CrashError::Violation("SIGTERM does not stop the server".to_owned()));
    }
    let server = start(&mut summary.slowest_start)?;
    checker.check_all(&server, &mut summary).await.map_err(|e| with_output(e, &server))?;
    let (acknowledged, open) = model.answered();
    (summary.acknowledged, summary.open) = (acknowledged, open);
    Ok(summary)
}

fn with_output(error: CrashError, server: &Server) -> CrashError {
    match error {
        CrashError::Violation(why) => {
            CrashError::Violation(format!("{why}\nThe server printed:\n{}", server.output()))
        }
        other => other,
    }
}
