//! An evidence archive: the mails on a message as they were found, with what it takes to judge them years
//! later and off-line. Version 1 is a plain tar file (POSIX ustar) of
//!
//! | file | holds |
//! |---|---|
//! | `README.txt` | what this is, and how to look at it without hoptrail |
//! | `bundle.json` | [`Contents`]: who made it when, A of each message, the DKIM keys and when they were looked up, what was left out and why |
//! | `reports/SHA256.eml` | each report mail, and each notice of another mail system (RFC 3464, RFC 8098) that was joined, octet for octet; its own digest is its name |
//! | `timeline.html` | the verdict for people, a page that stands alone, times in UTC |
//! | `verdict.json` | the same for programs, schema `hoptrail.timeline/1` |
//! | `SHA256SUMS` | the digest of each file, for `sha256sum -c` |
//!
//! in this order. The same contents make the same octets, so one that differs anywhere differs from what its own
//! files pack to. Digests hold the files together and prove nothing: whoever alters a file can write its digest anew. What
//! holds is judged from the mails, keys and proofs alone; `README.txt`, `timeline.html` and `verdict.json` are words, which
//! the program that made them makes anew from these, octet for octet, and another one need not. A user's secret is not in it. A of each message is (B = H(A) is what the hops were given): it
//! proves that the reports were asked for, and lets whoever has the archive make Auth of further ones. So it is the
//! signatures, not Auth, that convince a stranger. Nothing proves the notices: they are there since the verdict tells
//! what they say.
//!
//! Nothing of an archive is ever written to disk; its size, its entries and their names are bounded.
//!
//! Must not know the clock, disk or DNS, nor how trails are drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

use super::assemble::note_left_out;
use super::examine::{MAILS_MAX, OCTETS_MAX, examine};
use super::verify::{Known, Proof};
use super::{Message, NotOurs, Trails, Truth};
use crate::report::Keys;
use crate::track::TrackingId;

/// The name and version of the format.
pub const SCHEMA: &str = "hoptrail.bundle/1";

/// The largest archive that is opened, octets: the mails, and as much again for all else.
pub const ARCHIVE_OCTETS_MAX: usize = 2 * OCTETS_MAX;

/// What an archive says of itself.
pub const README: &str = "README.txt";
const CONTENTS: &str = "bundle.json";
/// The verdict for people.
pub const PICTURE: &str = "timeline.html";
/// The same for programs.
pub const VERDICT: &str = "verdict.json";
const SUMS: &str = "SHA256SUMS";
const REPORTS: &str = "reports/";
const EML: &str = ".eml";

/// The version that makes archives, and a digest of what it makes their words with.
pub const MADE_BY: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("HOPTRAIL_WORDS"));

/// What [`README`] says.
pub const ABOUT: &str = "\
This archive holds what mail servers reported about a message on its way, as evidence.

reports/*.eml   the reports, octet for octet as they lay in the sender's mailbox; also bounces and read receipts that
                other mail systems sent about the message, and which nothing proves
bundle.json     when this was made; the DKIM keys of the servers' domains, and when the DNS was asked for them; for
                each message the proof A, whose digest B the sender gave the servers (hoptrail, track/certificate.rs);
                which reports had a signature that does not fit, and which are not here since they are altered or forged
timeline.html   what the reports tell, for people: a page that asks for nothing
verdict.json    the same for programs
SHA256SUMS      the digest of each file

Check it:                 hoptrail verify THIS-FILE
Or by hand:               tar xf THIS-FILE && sha256sum -c SHA256SUMS
and each DKIM signature:  dkimverify < reports/....eml, with the keys in bundle.json
";

/// An archive's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What judges the reports.
    pub contents: Contents,
    /// The report mails, and the notices that were joined.
    pub mails: BTreeSet<Vec<u8>>,
    /// What it is.
    pub about: String,
    /// The verdict for people.
    pub picture: String,
    /// The verdict for programs.
    pub verdict: String,
}

/// `bundle.json`. Whoever adds a field that judges gives the schema a new version, and reads the old ones on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// [`SCHEMA`].
    pub schema: String,
    /// The hoptrail that made it, as [`MADE_BY`].
    pub made_by: String,
    /// When, µs since 1970-01-01 UTC, by the clock of whoever made it.
    pub made_us: i64,
    /// There was a secret, by which what has no A here is not proved; without one nobody can say.
    #[serde(default)]
    pub had_secret: bool,
    /// A of each message that is proved.
    pub proofs: Vec<ProofText>,
    /// The DKIM keys as they were looked up.
    pub keys: Keys,
    /// The digests of the reports in it whose signature did not fit then.
    #[serde(default)]
    pub misfits: BTreeSet<String>,
    /// The reports on its messages that were altered or forged and are not in it, as they were found then.
    #[serde(default)]
    pub left_out: Vec<NotOurs>,
    /// In whose names reports that nothing proves were on its messages then; those under other ids are not in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproved: Vec<Unproved>,
}

/// In whose names reports that nothing proves are on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unproved {
    /// The message.
    pub id: TrackingId,
    /// As in [`Message::unproved_hosts`].
    pub hosts: BTreeSet<String>,
    /// As in [`Message::unproved_next`].
    pub next: BTreeSet<String>,
}

impl Unproved {
    /// Those of a message, if there are any.
    pub fn of(message: &Message) -> Option<Self> {
        let (hosts, next) = (&message.unproved_hosts, &message.unproved_next);
        (!hosts.is_empty() || !next.is_empty()).then(|| Self {
            id: message.id.clone(),
            hosts: hosts.clone(),
            next: next.clone(),
        })
    }
}

impl Contents {
    fn read(text: &str) -> Result<Self, Broken> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
            made_by: String,
        }
        let unreadable = |why: serde_json::Error| Broken::Unreadable(CONTENTS, why.to_string());
        let head: Head = serde_json::from_str(text).map_err(unreadable)?;
        if head.schema != SCHEMA {
            return Err(Broken::Foreign(head.schema, head.made_by));
        }
        serde_json::from_str(text).map_err(unreadable)
    }

    /// By what its maker judged whether a report was asked for, given A of its messages.
    pub fn known<'a>(&self, proofs: &'a [Proof]) -> Known<'a> {
        if proofs.is_empty() && !self.had_secret {
            Known::Nothing
        } else {
            Known::Proofs(proofs)
        }
    }

    /// Adds what was left out, behind what is set apart now.
    pub fn with_left_out(&self, mut trails: Trails) -> Trails {
        for message in &mut trails.messages {
            let proved = message.truth == Truth::Verified;
            let of_it = self
                .unproved
                .iter()
                .filter(|of| proved && of.id == message.id);
            for unproved in of_it {
                message.unproved_hosts.extend(unproved.hosts.clone());
                message.unproved_next.extend(unproved.next.clone());
            }
        }
        note_left_out(&mut trails.messages, &self.left_out);
        trails.not_ours.extend(self.left_out.iter().cloned());
        trails
    }
}

/// A of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofText {
    /// Message-ID without angle brackets.
    pub message_id: String,
    /// When it was sent, ms.
    pub sent_ms: u64,
    /// A, 64 hex digits.
    pub a: String,
}

impl ProofText {
    /// A as it stands in the archive.
    pub fn of(proof: &Proof) -> Self {
        Self {
            message_id: proof.message_id.clone(),
            sent_ms: proof.sent_ms,
            a: hex(&proof.proof),
        }
    }

    fn read(&self) -> Option<Proof> {
        let digit = |at: usize| u8::from_str_radix(self.a.get(at * 2..at * 2 + 2)?, 16).ok();
        let octets: Option<Vec<u8>> = (0..32).map(digit).collect();
        let proof = Proof {
            message_id: self.message_id.clone(),
            sent_ms: self.sent_ms,
            proof: octets?.try_into().ok()?,
        };
        // Written in one way alone.
        (hex(&proof.proof) == self.a).then_some(proof)
    }
}

/// Why an archive does not hold.
#[derive(Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Broken {
    #[error("larger than {} MiB", ARCHIVE_OCTETS_MAX >> 20)]
    TooBig,
    #[error("it is compressed; unpack it and verify the tar file that was made")]
    Compressed,
    #[error("no evidence archive, or a damaged one: its octets are not those of a tar file")]
    NotTar,
    #[error("holds {0:?}, which no evidence archive does")]
    Stranger(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is altered: its digest is another one")]
    Altered(String),
    #[error("{0} is not understood: {1}")]
    Unreadable(&'static str, String),
    #[error(
        "made by hoptrail {1:?}, in a form that this one does not know ({0:?}); verify it with that one"
    )]
    Foreign(String, String),
    #[error("its octets are not those that its files pack to: altered outside of them")]
    Repacked,
}

impl Bundle {
    /// The archive.
    pub fn write(&self) -> Vec<u8> {
        // Strings, numbers and lists always make JSON.
        let contents = serde_json::to_string_pretty(&self.contents).unwrap_or_default() + "\n";
        let mut files = vec![
            (README.to_owned(), self.about.as_bytes()),
            (CONTENTS.to_owned(), contents.as_bytes()),
        ];
        let mut reports: Vec<_> = self
            .mails
            .iter()
            .map(|mail| (file_of(mail), &**mail))
            .collect();
        reports.sort();
        files.extend(reports);
        files.push((PICTURE.to_owned(), self.picture.as_bytes()));
        files.push((VERDICT.to_owned(), self.verdict.as_bytes()));
        pack(&files)
    }

    /// Opens an archive, of which every octet has to be in its place.
    pub fn read(archive: &[u8]) -> Result<Self, Broken> {
        if archive.len() > ARCHIVE_OCTETS_MAX {
            return Err(Broken::TooBig);
        }
        let files = unpack(archive)?;
        check_names(&files)?;
        let text = |name| text_of(&files, name);
        let contents = Contents::read(&text(CONTENTS)?)?;
        let mails = files.iter().filter(|(name, _)| name.starts_with(REPORTS));
        let bundle = Self {
            mails: mails.map(|(_, mail)| mail.clone()).collect(),
            about: text(README)?,
            picture: text(PICTURE)?,
            verdict: text(VERDICT)?,
            contents,
        };
        let packed = files.iter().filter(|(name, _)| name != SUMS);
        let packed: Vec<_> = packed.map(|(n, o)| (n.clone(), o.as_slice())).collect();
        if pack(&packed) != archive {
            return Err(Broken::Repacked);
        }
        Ok(bundle)
    }

    /// What its reports tell, judged anew by what stands in it, and what its maker left out.
    pub fn judge(&self) -> Result<Trails, Broken> {
        let proofs = self.proofs()?;
        let mails = self.mails.iter().map(Vec::as_slice);
        let trails = examine(mails, &self.contents.keys, self.contents.known(&proofs));
        Ok(self.contents.with_left_out(trails))
    }

    /// A of each message, if all are well-formed.
    pub fn proofs(&self) -> Result<Vec<Proof>, Broken> {
        let unreadable = || Broken::Unreadable(CONTENTS, "a proof is not 64 hex digits".to_owned());
        let proofs = self.contents.proofs.iter().map(ProofText::read);
        proofs.collect::<Option<_>>().ok_or_else(unreadable)
    }
}

type File = (String, Vec<u8>);

/// How files begin that gzip, bzip2, xz and zstd made; no name in an archive of ours begins so.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// A tar of these files and their digests, the same for the same files wherever and whenever it is made.
fn pack(files: &[(String, &[u8])]) -> Vec<u8> {
    let sum = |(name, octets): &(String, &[u8])| format!("{}  {name}\n", digest(octets));
    let sums: String = files.iter().map(sum).collect();
    let mut archive = Builder::new(Vec::new());
    let files = files.iter().map(|(name, octets)| (name.as_str(), *octets));
    for (name, octets) in files.chain([(SUMS, sums.as_bytes())]) {
        let mut header = Header::new_ustar();
        header.set_size(octets.len() as u64);
        header.set_mode(0o644);
        // Memory takes all there is, and these names are short.
        let _ = archive.append_data(&mut header, name, octets);
    }
    archive.into_inner().unwrap_or_default()
}

/// The files of an archive, each once, under names that may stand there.
fn unpack(archive: &[u8]) -> Result<Vec<File>, Broken> {
    if COMPRESSED.iter().any(|start| archive.starts_with(start)) {
        return Err(Broken::Compressed);
    }
    let damaged = |_: std::io::Error| Broken::NotTar;
    let mut files: Vec<File> = Vec::new();
    let mut names = BTreeSet::new();
    for entry in Archive::new(archive).entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let plain = entry.header().entry_type() == EntryType::Regular;
        if !plain || !is_name(&name) || !names.insert(name.clone()) || names.len() > MAILS_MAX + 5 {
            return Err(Broken::Stranger(name.chars().take(100).collect()));
        }
        // No more than the archive itself holds.
        let mut octets = Vec::new();
        entry.read_to_end(&mut octets).map_err(damaged)?;
        files.push((name, octets));
    }
    if files.is_empty() {
        return Err(Broken::NotTar);
    }
    Ok(files)
}

fn is_name(name: &str) -> bool {
    let of_digest = |name: &str| {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        name.len() == 64 && name.bytes().all(hex)
    };
    let report = name.strip_prefix(REPORTS).and_then(|n| n.strip_suffix(EML));
    report.is_some_and(of_digest) || [README, CONTENTS, PICTURE, VERDICT, SUMS].contains(&name)
}

/// Holds each file to its line in the digests, and each report to its name.
fn check_names(files: &[File]) -> Result<(), Broken> {
    let sums = text_of(files, SUMS)?;
    let sums: BTreeMap<&str, &str> = sums
        .lines()
        .filter_map(|l| l.split_once("  "))
        .map(|(sum, name)| (name, sum))
        .collect();
    for (name, octets) in files.iter().filter(|(name, _)| name != SUMS) {
        let digest = digest(octets);
        let misnamed = name.starts_with(REPORTS) && *name != file_of(octets);
        if misnamed || sums.get(name.as_str()) != Some(&digest.as_str()) {
            return Err(Broken::Altered(name.clone()));
        }
    }
    if sums.len() + 1 != files.len() {
        return Err(Broken::Missing("a file that SHA256SUMS names"));
    }
    Ok(())
}

fn text_of(files: &[File], wanted: &'static str) -> Result<String, Broken> {
    let found = files.iter().find(|(name, _)| name == wanted);
    let (_, octets) = found.ok_or(Broken::Missing(wanted))?;
    let text = std::str::from_utf8(octets);
    text.map(str::to_owned)
        .map_err(|why| Broken::Unreadable(wanted, why.to_string()))
}

fn file_of(mail: &[u8]) -> String {
    format!("{REPORTS}{}{EML}", digest(mail))
}

/// SHA-256 in hex.
pub fn digest(octets: &[u8]) -> String {
    hex(&Sha256::digest(octets))
}

fn hex(octets: &[u8]) -> String {
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
