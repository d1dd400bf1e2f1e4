//! Where the programs come from (tests/lab unpacks what is not ours), where their files go, and which
//! addresses they listen on.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The unpacked programs, and hoptrail's own release build.
pub struct Lab {
    directory: PathBuf,
    /// The release build of hoptrail.
    pub hoptrail: PathBuf,
}

impl Lab {
    /// Builds hoptrail, unpacks the rest; both are quick when it has been done before.
    pub fn get() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--bin", "hoptrail"])
            .current_dir(ROOT)
            .status()?;
        ensure!(built.success(), "hoptrail cannot be built");
        // This program is TARGET/release/examples/bench.
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(3).context("no target directory")?;
        let lab = Self {
            directory: target.join("lab"),
            hoptrail: target.join("release/hoptrail"),
        };
        for set in ["mtas", "peers", "readers"] {
            let got = Command::new(format!("{ROOT}/tests/lab/packages"))
                .args([lab.directory.as_os_str(), set.as_ref()])
                .status()?;
            ensure!(got.success(), "no mail lab");
        }
        Ok(lab)
    }

    /// The unpacked Postfix.
    pub fn postfix(&self) -> PathBuf {
        self.directory.join("pkg/postfix")
    }

    /// Postfix's `smtp-source` or `smtp-sink`.
    pub fn postfix_tool(&self, name: &str) -> Command {
        let package = self.postfix();
        let mut command = with_libraries(&package, &package.join("usr/sbin").join(name));
        // The sink wants to know whom to become when root starts it.
        if name == "smtp-sink" && is_root() {
            command.args(["-u", "nobody"]);
        }
        command
    }

    /// haproxy.
    pub fn haproxy(&self) -> Command {
        let package = self.directory.join("peers/haproxy");
        with_libraries(&package, &package.join("usr/sbin/haproxy"))
    }

    /// A program that reads mail.
    pub fn reader(&self, package: &str, program: &str) -> Command {
        let package = self.directory.join("readers").join(package);
        with_libraries(&package, &package.join(program))
    }

    /// A directory for the files of one process. On the disk of the target directory, because syncs to
    /// memory cost nothing; gone when dropped.
    pub fn scratch(&self) -> Result<TempDir> {
        Ok(TempDir::with_prefix_in("bench-", &self.directory)?)
    }
}

fn with_libraries(package: &Path, program: &Path) -> Command {
    let system = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let paths = ["usr/lib/postfix", system.as_str()].map(|path| package.join(path));
    let mut command = Command::new(program);
    command.env(
        "LD_LIBRARY_PATH",
        paths.map(|p| p.display().to_string()).join(":"),
    );
    command
}

/// Whether this is root, who alone can start the lab's Postfix.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A loopback address of its own for each listener; the port lies below those the kernel gives to clients.
pub fn address() -> SocketAddrV4 {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = (std::process::id() % (254 * 256)).to_be_bytes();
    let count = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    SocketAddrV4::new(Ipv4Addr::new(127, high + 1, low, count), 2525)
}
