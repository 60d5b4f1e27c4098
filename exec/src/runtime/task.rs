//! A query's life on the worker threads.

use std::sync::{Arc, Mutex, PoisonError};

use auspex_storage::{Head, SharedStore};
use futures::future::select_all;
use tokio::sync::{mpsc, oneshot, watch};

use super::query::{Query, Turn};
use super::status::{QueryState, QueryStatus};
use crate::error::Result;

/// What a query is told. The answer comes when it is done.
pub(super) enum Command {
    /// Stand still.
    Pause(oneshot::Sender<()>),
    /// Go on, also after a failure.
    Resume(oneshot::Sender<()>),
    /// Make the position durable.
    Flush(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// Drives a query until it is stopped.
pub(super) async fn run(
    mut query: Query,
    store: SharedStore,
    mut commands: mpsc::UnboundedReceiver<Command>,
    changes: watch::Sender<u64>,
) {
    let status = query.status();
    let mut inputs = Watches::new(&query, &store);
    loop {
        let command = match commands.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Command::Stop),
            Err(mpsc::error::TryRecvError::Empty) if is_running(&status) => None,
            Err(mpsc::error::TryRecvError::Empty) => {
                Some(commands.recv().await.unwrap_or(Command::Stop))
            }
        };
        if let Some(command) = command {
            if !obey(&mut query, command, &status, &changes).await {
                return;
            }
            continue;
        }
        inputs.mark_seen();
        let result = match query.turn() {
            Ok(Turn::Progress) => {
                tokio::task::yield_now().await;
                Ok(())
            }
            Ok(Turn::Full) => query.oldest_done().await,
            Ok(Turn::Settle) => query.settled().await,
            Ok(Turn::Idle) => {
                let waiting = query.is_waiting();
                tokio::select! {
                    biased;
                    command = commands.recv() => {
                        let command = command.unwrap_or(Command::Stop);
                        if !obey(&mut query, command, &status, &changes).await {
                            return;
                        }
                        Ok(())
                    }
                    result = query.oldest_done(), if waiting => result,
                    () = inputs.changed() => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            set_state(&status, QueryState::Failed(error.to_string()), &changes);
        }
    }
}

/// Carries out a command; false when the query is to end.
async fn obey(
    query: &mut Query,
    command: Command,
    status: &Mutex<QueryStatus>,
    changes: &watch::Sender<u64>,
) -> bool {
    let (state, answer) = match command {
        Command::Pause(answer) => {
            let saved = save(query).await;
            (outcome(saved, Some(QueryState::Paused)), answer)
        }
        Command::Resume(answer) => {
            let resumed = match state_of(status) {
                QueryState::Running => Ok(()),
                QueryState::Paused => query.resume(false),
                QueryState::Failed(_) => query.resume(true),
            };
            (outcome(resumed, Some(QueryState::Running)), answer)
        }
        Command::Flush(answer) => (outcome(save(query).await, None), answer),
        Command::Stop => {
            // Without it the next start repeats a little.
            if let Err(error) = save(query).await {
                tracing::warn!(%error, "a stopped query could not save its position");
            }
            return false;
        }
    };
    if let Some(state) = state {
        set_state(status, state, changes);
    }
    // Who asked may have gone.
    let _ = answer.send(());
    true
}

fn outcome(result: Result<()>, state: Option<QueryState>) -> Option<QueryState> {
    match result {
        Ok(()) => state,
        Err(error) => Some(QueryState::Failed(error.to_string())),
    }
}

async fn save(query: &mut Query) -> Result<()> {
    query.settled().await?;
    query.flush()?;
    query.settled().await
}

fn is_running(status: &Mutex<QueryStatus>) -> bool {
    state_of(status) == QueryState::Running
}

/// The state as of now.
pub(super) fn state_of(status: &Mutex<QueryStatus>) -> QueryState {
    status.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
}

/// Changes the state and wakes those who wait for queries.
pub(super) fn set_state(
    status: &Mutex<QueryStatus>,
    state: QueryState,
    changes: &watch::Sender<u64>,
) {
    status.lock().unwrap_or_else(PoisonError::into_inner).state = state;
    changes.send_modify(|n| *n += 1);
}

/// Wakes a query when one of its inputs moves.
struct Watches {
    heads: Vec<watch::Receiver<Head>>,
    /// Silent sources move with the global order.
    sequence: watch::Receiver<u64>,
    end: watch::Receiver<u64>,
}

impl Watches {
    fn new(query: &Query, store: &SharedStore) -> Watches {
        // A stream that is gone already makes the first turn fail.
        let heads = query.inputs().into_iter().filter_map(|s| store.watch(s).ok()).collect();
        Watches { heads, sequence: store.watch_sequence(), end: query.watch_end() }
    }

    /// From here on a change wakes; called before the heads are read.
    fn mark_seen(&mut self) {
        self.heads.iter_mut().for_each(watch::Receiver::mark_unchanged);
        self.sequence.mark_unchanged();
        self.end.mark_unchanged();
    }

    async fn changed(&mut self) {
        let sequence = Box::pin(async {
            if self.sequence.changed().await.is_err() {
                // The store is gone, and with it whoever could wake us but by a command.
                std::future::pending::<()>().await;
            }
        });
        let end = Box::pin(async {
            if self.end.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let heads = self.heads.iter_mut().map(|head| {
            Box::pin(async {
                // An error means that the stream is gone: the next turn says so.
                let _ = head.changed().await;
            }) as futures::future::BoxFuture<'_, ()>
        });
        let all: Vec<futures::future::BoxFuture<'_, ()>> =
            heads.chain([sequence as futures::future::BoxFuture<'_, ()>, end]).collect();
        select_all(all).await;
    }
}

/// Shared by [`super::Runtime`] to read a status.
pub(super) type SharedStatus = Arc<Mutex<QueryStatus>>;
