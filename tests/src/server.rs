//! The server as a child process on a free port, in a data directory that goes away.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls};

/// How long a server may take to open its port. A limit against hanging, not a promise.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why a server could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The binary is missing.
    #[error(
        "the server binary is not at {}: run `cargo build --release -p auspex-server -p auspex-deps \
         --bin auspex`, or set AUSPEX_BIN",
        .0.display()
    )]
    Missing(PathBuf),
    /// It could not be started or waited for.
    #[error("the server process: {0}")]
    Process(#[from] io::Error),
    /// It ended, or said nothing, before its port was open.
    #[error("the server did not open its port ({why}); it printed:\n{output}")]
    Silent {
        /// What happened instead.
        why: String,
        /// Everything it printed.
        output: String,
    },
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    address: SocketAddr,
    output: Arc<Mutex<String>>,
    folder: Option<tempfile::TempDir>,
}

/// The `auspex` binary under test: `AUSPEX_BIN`, or the one built beside this test.
pub fn binary() -> Result<PathBuf, ServerError> {
    if let Some(path) = std::env::var_os("AUSPEX_BIN") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(ServerError::Missing(path)) };
    }
    // target/release/deps/slt-0123 and target/release/crashtest: both have it above them.
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("auspex"))
        .find(|path| path.is_file())
        .ok_or_else(|| ServerError::Missing(own.with_file_name("auspex")))
}

impl Server {
    /// A server with an empty data directory, which is removed with it.
    pub fn start() -> Result<Server, ServerError> {
        let folder = tempfile::tempdir()?;
        let mut server = Server::start_in(&folder.path().join("data"))?;
        server.folder = Some(folder);
        Ok(server)
    }

    /// A server on the given data directory.
    pub fn start_in(data: &Path) -> Result<Server, ServerError> {
        Server::start_with(&binary()?, data, &[] as &[&str])
    }

    /// A server of the given binary with further arguments.
    pub fn start_with(
        binary: &Path,
        data: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<Server, ServerError> {
        let mut child = Command::new(binary)
            .arg("server")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        for pipe in [
            child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
            child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let (output, found) = (Arc::clone(&output), found.clone());
            thread::spawn(move || follow(pipe, &output, &found));
        }
        drop(found);
        match address.recv_timeout(START_LIMIT) {
            Ok(address) => Ok(Server { child, address, output, folder: None }),
            Err(error) => {
                let why = match error {
                    RecvTimeoutError::Timeout => format!("within {START_LIMIT:?}"),
                    RecvTimeoutError::Disconnected => "it ended".to_owned(),
                };
                child.kill()?;
                child.wait()?;
                let output = output.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(ServerError::Silent { why, output })
            }
        }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The environment in which libpq programs find it.
    pub fn libpq_environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", self.address.ip().to_string()),
            ("PGPORT", self.address.port().to_string()),
            ("PGUSER", "auspex".to_owned()),
            ("PGDATABASE", "auspex".to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
            ("PGCONNECT_TIMEOUT", "30".to_owned()),
        ]
    }

    /// Connection settings.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config.user("auspex").dbname("auspex").connect_timeout(Duration::from_secs(30));
        config
    }

    /// A client. Its connection runs on the current runtime until the client is dropped.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// `kill -9`, then waits until the process is gone.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for it, at most `limit`; `None` when it did not stop.
    pub fn stop(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ServerError> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and a process that is gone is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what a pipe says and reports the address from the line `listening on HOST:PORT`.
fn follow(pipe: impl Read, output: &Mutex<String>, found: &mpsc::Sender<SocketAddr>) {
    for line in BufReader::new(pipe).lines() {
        let Ok(line) = line else { return };
        if let Some(address) = listening(&line) {
            // Nobody waits any more when the start has been given up.
            let _ = found.send(address);
        }
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(&line);
        output.push('\n');
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("listening on ")?.1;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::listening;

    #[test]
    fn address_is_found_in_a_log_line() {
        let expected = "127.0.0.1:5433".parse().ok();
        assert_eq!(listening("listening on 127.0.0.1:5433"), expected);
        assert_eq!(listening("INFO auspex: listening on 127.0.0.1:5433 (loopback)"), expected);
        assert_eq!(listening("listening on"), None);
    }
}
