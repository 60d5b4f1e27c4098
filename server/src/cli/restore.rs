//! `auspex restore`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::report;

const EXAMPLES: &str = "\
Examples:
  auspex restore --from /backups/monday --data-dir /var/lib/auspex
  auspex server --data-dir /var/lib/auspex

The backup was made by the statement BACKUP TO '/backups/monday' and stays as it is. The data
directory must not exist yet or be empty.";

/// Copies a backup into a new data directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RestoreArguments {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Data directory to be made
    #[arg(long, env = "AUSPEX_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(arguments: &RestoreArguments) -> ExitCode {
    match restore(&arguments.from, &arguments.data_dir) {
        Ok(files) => {
            eprintln!("{files} files restored to {}", arguments.data_dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => report::fail(&error),
    }
}

/// Copies the files; returns their number.
fn restore(from: &Path, to: &Path) -> Result<usize, String> {
    let shown = |path: &Path, e: &io::Error| format!("{}: {e}", path.display());
    if !from.join("CURRENT").is_file() {
        return Err(format!("{} is not a backup", from.display()));
    }
    match fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(format!("{} is not empty; restore into a new directory", to.display()));
        }
        Ok(false) => fs::remove_dir(to).map_err(|e| shown(to, &e))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(shown(to, &e)),
    }
    // Under another name until it is whole, so that a half-copied directory is never a data
    // directory.
    let mut name = to.file_name().ok_or("the data directory has no name")?.to_os_string();
    name.push(".partial");
    let partial = to.with_file_name(name);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|e| shown(&partial, &e))?;
    }
    let files = copy(from, &partial)?;
    fs::rename(&partial, to).map_err(|e| shown(to, &e))?;
    if let Some(parent) = to.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync(parent).map_err(|e| shown(parent, &e))?;
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result<usize, String> {
    let shown = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(to).map_err(|e| shown(to, e))?;
    let mut files = 0;
    for entry in fs::read_dir(from).map_err(|e| shown(from, e))? {
        let source = entry.map_err(|e| shown(from, e))?.path();
        let Some(name) = source.file_name() else { continue };
        let target = to.join(name);
        if source.is_dir() {
            files += copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(|e| shown(&source, e))?;
            sync(&target).map_err(|e| shown(&target, e))?;
            files += 1;
        }
    }
    sync(to).map_err(|e| shown(to, e))?;
    Ok(files)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backup_is_restored_and_only_into_an_empty_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("backup"), dir.path().join("data"));
        fs::create_dir_all(from.join("sub")).expect("made");
        let error = restore(&from, &to).expect_err("refused");
        assert!(error.ends_with("backup is not a backup"), "{error}");
        fs::write(from.join("CURRENT"), "x").expect("written");
        fs::write(from.join("sub/file"), "y").expect("written");
        fs::create_dir(&to).expect("made");
        assert_eq!(restore(&from, &to), Ok(2));
        assert_eq!(fs::read_to_string(to.join("sub/file")).expect("read"), "y");
        let error = restore(&from, &to).expect_err("refused");
        assert!(error.ends_with("is not empty; restore into a new directory"), "{error}");
    }
}
