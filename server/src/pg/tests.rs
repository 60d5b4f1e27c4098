//! The protocol message by message, over real sockets and the real engine in memory.

mod abuse;
mod client;
mod driver;
mod extended;
mod session;
mod simple;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Limits;
use crate::engine::{Engine, EngineOptions};
use client::Client;

/// A server of its own for one test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<Result<(), auspex_plan::Diagnostic>>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Server {
        let options = EngineOptions { workers: 1, sweep_seconds: 0, ..EngineOptions::default() };
        let engine: Arc<Engine> = Engine::open(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(super::serve(engine, listener, limits, stopped));
        Server { address, stop, served }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        within(self.served).await.unwrap().unwrap();
    }
}

/// A test that hangs fails instead.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("no answer within 30 s")
}
