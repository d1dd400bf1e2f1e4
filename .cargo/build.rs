//! Has the linker lay side by side what a hop runs to start and to hold sessions (`serve.ld`). The system maps 64 KiB
//! of a program around every place of it that is touched: 1.6 MB of functions, strewn over 9 MB, keep 5.5 MB of memory.
//!
//! Only in a release, and only where a trial shows that the linker in use knows how. A program that is laid out
//! otherwise does the same.
//!
//! And tells the program by a digest of what its verdicts are made with, so that an evidence archive can say which
//! program's words are in it: builds of one version may differ in them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The order, as GNU ld and LLVM's lld read it.
const ORDER: &str = ".cargo/serve.ld";

/// What a verdict is made with.
const WORDS: [&str; 4] = ["src/report", "src/track", "src/trail", "Cargo.lock"];

fn main() {
    // Asked now: a build directory may have come here with the program that this is from another place.
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = root.unwrap_or_default();
    println!("cargo::rustc-env=HOPTRAIL_WORDS={:016x}", words(&root));
    let order = root.join(ORDER).display().to_string();
    println!("cargo::rerun-if-changed={order}");
    let argument = format!("-Wl,-T,{order}");
    let released = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if released && links_with(&argument).unwrap_or(false) {
        println!("cargo::rustc-link-arg-bin=hoptrail={argument}");
    }
}

/// Whether a program that does nothing can be linked so, by the compiler, for the target and with the linker and flags
/// of this build. `None` where that cannot be tried.
fn links_with(argument: &str) -> Option<bool> {
    let directory = env::var_os("OUT_DIR")?;
    let source = Path::new(&directory).join("trial.rs");
    fs::write(&source, "fn main() {}\n").ok()?;
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut compiler = Command::new(env::var_os("RUSTC")?);
    compiler
        .arg(source)
        .arg("--out-dir")
        .arg(&directory)
        .arg("--target")
        .arg(env::var_os("TARGET")?)
        .args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg(format!("-Clinker={linker}"));
    }
    compiler
        .arg(format!("-Clink-arg={argument}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Some(compiler.status().ok()?.success())
}

/// The digest of what a verdict is made with (FNV-1a: it tells builds apart, and is no proof of anything).
fn words(root: &Path) -> u64 {
    let mut files = Vec::new();
    for place in WORDS {
        list(&root.join(place), &mut files);
    }
    files.sort();
    let mut digest = 0xcbf2_9ce4_8422_2325;
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let text = fs::read(&file).unwrap_or_default();
        let fold = |sum: u64, octet: &u8| (sum ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        digest = text.iter().fold(digest, fold);
    }
    digest
}

/// The files at a place, without those of tests.
fn list(place: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(place) else {
        files.push(place.to_owned());
        return;
    };
    for entry in entries.flatten().map(|entry| entry.path()) {
        let name = entry.file_stem().unwrap_or_default().to_string_lossy();
        if name != "tests" && !name.ends_with("_tests") {
            list(&entry, files);
        }
    }
}
