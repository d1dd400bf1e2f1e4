//! Where the reports are: what the words of `timeline`, `watch` and `stats` name, how to get at it, and what was read
//! of it before.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::observe::log;
use crate::track::Secret;
use crate::trail::render::format::plain;
use crate::trail::source::imap::Login;
use crate::trail::{Reports, Source};

/// For the help of a command that takes them.
pub const SOURCES: &str = "\
Sources, each told by what it is, none of them changed:
  a Maildir             with its Maildir++ folders
  an mbox file, or a file that holds one mail
  a directory           of .eml files
  -                     standard input: an mbox or one mail
  imaps://USER@HOST/FOLDER
                        a folder on a server, over TLS; log in by --password-command,
                        --token-command or HOPTRAIL_PASSWORD

";

/// Where the password is looked for when no command gives it, as in `hoptrail send`.
const PASSWORD_VARIABLE: &str = "HOPTRAIL_PASSWORD";

/// How to log in where one has to.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// A command that prints the password for a folder on a server
    #[arg(long, value_name = "COMMAND", conflicts_with = "token_command")]
    password_command: Option<String>,
    /// A command that prints an OAuth 2 access token for it (XOAUTH2)
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
}

impl Access {
    fn login(&self) -> Option<Login> {
        let token = self.token_command.clone().map(Login::TokenCommand);
        let password = self.password_command.clone().map(Login::PasswordCommand);
        let variable = || env::var(PASSWORD_VARIABLE).ok().map(Login::Password);
        token.or(password).or_else(variable)
    }

    /// What a word names.
    pub fn source(&self, word: &OsString) -> anyhow::Result<Source> {
        let mut source = Source::named(word)?;
        if let Source::Imap(folder) = &mut source {
            folder.login = self.login();
        }
        Ok(source)
    }

    /// The sources, and the id of the message that is asked for. The first word is a source; a later one is if it
    /// looks like one or there is such a file.
    pub fn sources(&self, words: &[OsString]) -> anyhow::Result<(Vec<Source>, Option<String>)> {
        let (mut sources, mut id) = (Vec::new(), None);
        for (n, word) in words.iter().enumerate() {
            let text = word.to_string_lossy();
            let looks = text == "-" || text.starts_with(['/', '.']) || text.contains("://");
            if text.is_empty() {
                bail!("an empty word names no source and no message");
            }
            if n == 0 || looks || Path::new(word).exists() {
                sources.push(self.source(word)?);
            } else if let Some(id) = id.replace(text.into_owned()) {
                let id = plain(&id);
                bail!("{id} is no file; if it is the id of a message, no other can be asked for");
            }
        }
        Ok((sources, id))
    }
}

/// The reports in these sources, none of them read yet but those that an earlier run kept.
pub fn reports(sources: &[Source], secret: Option<&Secret>) -> Reports {
    let reports = Reports::of(sources.iter().cloned(), secret);
    match cache() {
        Some(cache) => reports.indexed_in(&cache),
        None => reports,
    }
}

/// Says on standard error what was not read: it cannot stand in every answer itself.
pub fn remark(skipped: &[(String, String)]) {
    const SHOWN: usize = 5;
    let count = skipped.len();
    if count > 0 {
        let of = if count == 1 {
            "file or folder"
        } else {
            "files or folders"
        };
        log::say(&format!(
            "{count} {of} skipped, not read or not understood:"
        ));
    }
    for (place, why) in skipped.iter().take(SHOWN) {
        log::say(&format!("  {}: {}", plain(place), plain(why)));
    }
    if count > SHOWN {
        log::say(&format!("  and {} more", count - SHOWN));
    }
}

/// Where hoptrail may keep what can be made anew: `$XDG_CACHE_HOME/hoptrail`, else `~/.cache/hoptrail`.
fn cache() -> Option<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let user = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(user?.join("hoptrail"))
}
