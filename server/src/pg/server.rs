//! The listener: accepts connections, holds them to the limits, ends them when the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use auspex_plan::{Diagnostic, SqlState};
use bytes::Bytes;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cancel::Cancels;
use super::connection::Connection;
use super::interrupt::{shutting_down, stopped};
use super::startup::{Opening, Startup, open};
use super::wire::{Input, Output};
use crate::engine::Engine;

/// Limits on what clients may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at the same time.
    pub max_connections: usize,
    /// Largest message in bytes, `CopyData` aside, which is never held as a whole.
    pub max_message: usize,
    /// Time from the connection to the end of its startup packet.
    pub startup_timeout: Duration,
    /// Time that sessions are given to end when the server stops.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 100,
            max_message: 64 << 20,
            startup_timeout: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Connections without a session (starting up, or sending a cancel request) beyond
/// `max_connections`.
const EXTRA_CONNECTIONS: usize = 64;

/// Refuses addresses that other machines could reach: there is no authentication yet.
pub fn check_address(address: &SocketAddr) -> Result<(), Diagnostic> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(Diagnostic::unsupported(format!(
        "cannot listen on {address}: only loopback addresses are allowed, because clients are not \
         authenticated yet"
    ))
    .hint("Use 127.0.0.1 or ::1."))
}

/// What the connections of a listener share.
struct Shared {
    engine: Arc<Engine>,
    limits: Limits,
    cancels: Cancels,
    sessions: AtomicUsize,
    connections: AtomicUsize,
}

/// Counts one up for as long as it lives.
struct Counted(Arc<Shared>, fn(&Shared) -> &AtomicUsize);

impl Counted {
    /// `None` when `limit` is reached.
    fn new(
        shared: &Arc<Shared>,
        counter: fn(&Shared) -> &AtomicUsize,
        limit: usize,
    ) -> Option<Counted> {
        let counted = Counted(Arc::clone(shared), counter);
        let before = counter(shared).fetch_add(1, Ordering::Relaxed);
        (before < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves clients until `shutdown` becomes true; then ends their sessions and returns. Refuses a
/// listener that is not on a loopback address.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Diagnostic> {
    let io = |error: std::io::Error| {
        Diagnostic::error(SqlState::IO_ERROR, format!("cannot listen: {error}"))
    };
    check_address(&listener.local_addr().map_err(io)?)?;
    let shared = Arc::new(Shared {
        engine,
        limits,
        cancels: Cancels::default(),
        sessions: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
    });
    let most = shared.limits.max_connections.saturating_add(EXTRA_CONNECTIONS);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        while let Some(ended) = tasks.try_join_next() {
            report(ended);
        }
        match accepted {
            Ok((stream, _)) => {
                let Some(counted) = Counted::new(&shared, |s| &s.connections, most) else {
                    continue;
                };
                let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
                tasks.spawn(async move {
                    let _counted = counted;
                    accept(shared, stream, shutdown).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, for example: wait for some to come back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = tokio::time::timeout(shared.limits.shutdown_grace, async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    });
    if ended.await.is_err() {
        tracing::warn!(sessions = tasks.len(), "sessions did not end in time");
        tasks.shutdown().await;
    }
    Ok(())
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a defect of the server");
    }
}

async fn accept(shared: Arc<Shared>, stream: TcpStream, shutdown: watch::Receiver<bool>) {
    if let Err(error) = prepare_socket(&stream) {
        tracing::debug!(%error, "cannot set socket options");
    }
    let (reader, writer) = stream.into_split();
    serve_stream(shared, reader, writer, shutdown).await;
}

fn prepare_socket(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // A peer that vanished without a word is noticed after two minutes.
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(20))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))
}

/// Serves one client over any pair of streams.
async fn serve_stream<R, W>(
    shared: Arc<Shared>,
    reader: R,
    mut writer: W,
    mut shutdown: watch::Receiver<bool>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut input = Input::new(reader, shared.limits.max_message);
    let opened = tokio::select! {
        () = stopped(&mut shutdown) => Err(shutting_down()),
        opened = tokio::time::timeout(
            shared.limits.startup_timeout,
            open(&mut input, &mut writer),
        ) => match opened {
            Ok(opened) => opened,
            Err(_) => return,
        },
    };
    let mut output = Output::new(writer);
    let startup = match opened {
        Ok(Opening::Session(startup)) => startup,
        Ok(Opening::Cancel { pid, secret }) => return shared.cancels.cancel(pid, &secret),
        Ok(Opening::Close) => return,
        Err(error) => return refuse(&mut output, &error).await,
    };
    let limit = shared.limits.max_connections;
    let Some(_session) = Counted::new(&shared, |s| &s.sessions, limit) else {
        let error =
            Diagnostic::error(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .hint(format!("At most {limit} sessions are allowed (max_connections)."));
        return refuse(&mut output, &error).await;
    };
    let mut session = shared.engine.session(&startup.user, &startup.database);
    for (name, value) in &startup.settings {
        if let Err(error) = session.set_startup(name, value) {
            return refuse(&mut output, &error).await;
        }
    }
    let secret = secret(startup.minor);
    let _registered =
        shared.cancels.register(session.pid(), secret.clone(), session.cancel_token());
    greet(&mut output, &startup, &session, secret);
    if output.flush().await.is_err() {
        return;
    }
    Connection::new(input, output, session, shutdown).run().await;
}

/// A random key for cancel requests: as long as the protocol version allows.
fn secret(minor: u32) -> Bytes {
    let key: [u8; 32] = rand::random();
    let length = if minor >= 2 { 32 } else { 4 };
    Bytes::copy_from_slice(&key[..length])
}

/// Everything up to the first ReadyForQuery.
fn greet<W: AsyncWrite + Unpin>(
    output: &mut Output<W>,
    startup: &Startup,
    session: &crate::engine::Session,
    secret: Bytes,
) {
    if startup.negotiate {
        let version = (3 << 16) | startup.minor as i32;
        output.put(&NegotiateProtocolVersion::new(version, startup.unknown_options.clone()));
    }
    output.put(&Authentication::Ok);
    for (name, value) in session.parameters() {
        output.parameter_status(name, &value);
    }
    output.put(&BackendKeyData::new(session.pid(), SecretKey::Bytes(secret)));
    output.ready(session.status());
}

/// Ends a connection that has no session.
async fn refuse<W: AsyncWrite + Unpin>(output: &mut Output<W>, error: &Diagnostic) {
    output.fatal(error);
    // The client may not be reading; the connection ends either way.
    let _ = tokio::time::timeout(Duration::from_secs(1), output.flush()).await;
}
