//! `hoptrail key dkim`: keys that sign reports, and the records that publish them. What it prints is text for
//! a zone file, with remarks as comments.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::config::{self, is_domain};
use crate::report::sign::{self, Key, Signer};
use crate::store::private;

/// Longest string in a TXT record, octets (RFC 1035, 3.3.14).
const STRING_OCTETS_MAX: usize = 255;
/// Bits of a new RSA key: all verifiers take it, and it fits a DNS answer over UDP (RFC 6376, 3.3.3).
const RSA_BITS: &str = "rsa_keygen_bits:2048";

/// What `key dkim` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Show the records of the keys in this configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domain", "selector", "key", "algorithm"])]
    config: Option<PathBuf>,
    /// The domain that vouches: that of `from` in [reports], or one above it
    #[arg(long, required_unless_present = "config")]
    domain: Option<String>,
    /// The name of the key in that domain
    #[arg(long, required_unless_present = "config")]
    selector: Option<String>,
    /// The key's file: made if it is not there
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    key: Option<PathBuf>,
    /// The kind of a new key; rsa is what every verifier knows, and what openssl makes
    #[arg(long, value_enum)]
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    Rsa,
    Ed25519,
}

/// Makes a key if one is asked for; returns the records.
pub fn run(args: Args) -> anyhow::Result<String> {
    match args {
        Args {
            config: Some(path), ..
        } => configured(&path),
        Args {
            domain: Some(domain),
            selector: Some(selector),
            key: Some(key),
            algorithm,
            ..
        } => in_file(&key, algorithm, domain, selector),
        _ => bail!("--domain, --selector and --key are needed"),
    }
}

/// The records of the keys in a configuration.
fn configured(path: &Path) -> anyhow::Result<String> {
    let signers = config::load_signers(path)?;
    if signers.is_empty() {
        bail!(
            "{}: no dkim in [reports]; make a key with --domain, --selector and --key",
            path.display()
        );
    }
    Ok(signers.iter().map(record).collect())
}

/// The record of the key in a file, and what to do with both.
fn in_file(
    path: &Path,
    algorithm: Option<Algorithm>,
    domain: String,
    selector: String,
) -> anyhow::Result<String> {
    for name in [&domain, &selector] {
        if !is_domain(name) {
            bail!("{name:?} is no name in the DNS (letters, digits, - and .)");
        }
    }
    // As the configuration needs it, wherever hoptrail runs.
    let path = &std::path::absolute(path)?;
    let (key, made) = read_or_make(path, algorithm)?;
    let remark = if made {
        ", made just now; it has to belong to the user that hoptrail runs as (chown)"
    } else {
        ""
    };
    let (shown, algorithm) = (path.display().to_string(), key.algorithm());
    let table = format!(
        "dkim = {{ domain = \"{domain}\", selector = \"{selector}\", key = {} }}",
        toml::Value::from(shown.as_str())
    );
    Ok(format!(
        "; {shown}: {algorithm} key{remark}\n\
         ; First publish this. A form for records takes the name without its last dot, and what\n\
         ; stands between the quotes as one.\n\
         {}\
         ; Once the DNS shows it, put this under [reports] and reload the hop (SIGHUP):\n\
         ; {table}\n",
        record(&Signer::new(domain, selector, key))
    ))
}

fn read_or_make(path: &Path, algorithm: Option<Algorithm>) -> anyhow::Result<(Key, bool)> {
    let (text, made) = match private::read(path) {
        Err(error) if error.is_missing() => {
            let text = match algorithm.unwrap_or(Algorithm::Rsa) {
                Algorithm::Rsa => generate_rsa()?,
                Algorithm::Ed25519 => generate_ed25519()?,
            };
            private::create(path, &text)?;
            (text, true)
        }
        other => (other?, false),
    };
    let key = Key::from_pem(&text).with_context(|| path.display().to_string())?;
    let asked = algorithm.map(|algorithm| match algorithm {
        Algorithm::Rsa => sign::Algorithm::Rsa,
        Algorithm::Ed25519 => sign::Algorithm::Ed25519,
    });
    if asked.is_some_and(|asked| asked != key.algorithm()) {
        bail!(
            "{}: there is an {} key already",
            path.display(),
            key.algorithm()
        );
    }
    Ok((key, made))
}

fn generate_ed25519() -> anyhow::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("no random numbers")?;
    Ok(sign::generate_ed25519(seed))
}

/// By openssl: nothing that hoptrail is made of makes RSA keys, and this is no place for new cryptography.
fn generate_rsa() -> anyhow::Result<String> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", RSA_BITS])
        .stdin(Stdio::null())
        .output();
    let output = match made {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "openssl is not installed, which makes RSA keys; install it, bring a key made elsewhere, or take \
             --algorithm ed25519"
        ),
        other => other.context("openssl")?,
    };
    if !output.status.success() {
        bail!(
            "openssl: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("openssl")
}

/// A signer's record as a zone file has it.
fn record(signer: &Signer) -> String {
    let value = signer.key().record();
    let strings = value.as_bytes().chunks(STRING_OCTETS_MAX);
    let strings = strings.map(|string| format!("    \"{}\"\n", String::from_utf8_lossy(string)));
    let strings: String = strings.collect();
    format!("{}. IN TXT (\n{strings})\n", signer.record_name())
}
