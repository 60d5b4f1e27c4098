//! A real PostgreSQL to compare with, in a directory that goes away.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A running PostgreSQL with default settings. Dropping it stops it.
pub struct Postgres {
    binaries: PathBuf,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

/// Where the programs of PostgreSQL 15 are: the Debian place, else wherever `pg_config` says.
pub fn binaries() -> Option<PathBuf> {
    let debian = PathBuf::from("/usr/lib/postgresql/15/bin");
    if debian.join("initdb").is_file() {
        return Some(debian);
    }
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    folder.join("initdb").is_file().then_some(folder)
}

impl Postgres {
    /// Makes a cluster and starts it on a free port of the loopback interface.
    pub fn start(binaries: PathBuf) -> io::Result<Postgres> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let postgres = Postgres { binaries, folder, address };
        if is_root()? {
            run(Command::new("chown").arg("postgres").arg(postgres.folder.path()))?;
        }
        let data = postgres.data();
        run(postgres
            .program("initdb")?
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "postgres"]))?;
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1",
            address.port(),
            postgres.folder.path().display()
        );
        let log = postgres.folder.path().join("log");
        run(postgres
            .program("pg_ctl")?
            .args(["start", "-w", "-o", &options, "-D"])
            .arg(&data)
            .arg("-l")
            .arg(log))?;
        Ok(postgres)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs. PostgreSQL refuses to run as root; then it runs as `postgres`.
    fn program(&self, name: &str) -> io::Result<Command> {
        let path = self.binaries.join(name);
        let mut command = if is_root()? {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(Path::new("/"));
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        let stopped = self
            .program("pg_ctl")
            .and_then(|mut command| run(command.args(["stop", "-m", "immediate", "-D"]).arg(data)));
        if let Err(error) = stopped {
            eprintln!("could not stop PostgreSQL: {error}");
        }
    }
}

fn is_root() -> io::Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn run(command: &mut Command) -> io::Result<()> {
    // Output goes to files or nowhere: a pipe would stay open as long as the server runs.
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let Output { status, stderr, .. } = command.stderr(std::process::Stdio::null()).output()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {status} {}", String::from_utf8_lossy(&stderr))))
}
