//! `hoptrail timeline`: what the reports in a mailbox tell.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{print, secret, view};
use crate::track::TrackingId;
use crate::trail::render::format::plain;
use crate::trail::render::{View, json, terminal};
use crate::trail::reports::{About, Groups, Reports};
use crate::trail::source::imap::Login;
use crate::trail::{Counts, Message, NotOurs, Outcome, Source, Trails};

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked about is delivered
  1  still on its way, or nobody can say: the trail ends at a hop that does not report, or there is a
     secret and no report on the message is proved by it (the ? in the list)
  2  usage or I/O error
  3  something failed
  4  nothing found";

const SOURCES: &str = "\
Sources, each told by what it is, none of them changed:
  a Maildir             with its Maildir++ folders
  an mbox file, or a file that holds one mail
  a directory           of .eml files
  -                     standard input: an mbox or one mail
  imaps://USER@HOST/FOLDER
                        a folder on a server, over TLS; log in by --password-command,
                        --token-command or HOPTRAIL_PASSWORD

";

/// Shows where tracked mail is, from the reports in a mailbox.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = [SOURCES, EXIT_CODES].concat())]
#[command(override_usage = "hoptrail timeline [OPTIONS] SOURCE... [ID]")]
pub struct Args {
    /// Where the reports are, such as ~/Maildir; and, to see every hop of one message, its tracking id or a unique
    /// beginning of it, or its Message-ID
    #[arg(required = true, value_name = "SOURCE... [ID]")]
    words: Vec<OsString>,
    /// Print JSON (schema hoptrail.timeline/1), the same fields for one message or all
    #[arg(long)]
    json: bool,
    /// Prove reports with the secret in this file instead of the user's own
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// A command that prints the password for a folder on a server
    #[arg(long, value_name = "COMMAND", conflicts_with = "token_command")]
    password_command: Option<String>,
    /// A command that prints an OAuth 2 access token for it (XOAUTH2)
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
}

impl Args {
    /// How to log in where one has to.
    fn login(&self) -> Option<Login> {
        let token = self.token_command.clone().map(Login::TokenCommand);
        let password = self.password_command.clone().map(Login::PasswordCommand);
        let variable = || std::env::var(PASSWORD_VARIABLE).ok().map(Login::Password);
        token.or(password).or_else(variable)
    }
}

/// Where the password is looked for when no command gives it, as in `hoptrail send`.
const PASSWORD_VARIABLE: &str = "HOPTRAIL_PASSWORD";

/// Runs the command. An error is for exit code 2.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let login = args.login();
    let Args {
        words,
        json: as_json,
        secret: file,
        ..
    } = args;
    let secret = match file {
        Some(path) => {
            let missing = || format!("{}: no such file", path.display());
            Some(secret::load_from(&path)?.with_context(missing)?)
        }
        None => secret::load()?,
    };
    let (mut sources, id) = sources(&words)?;
    for source in &mut sources {
        if let Source::Imap(folder) = source {
            folder.login.clone_from(&login);
        }
    }
    let mut reports = Reports::of(sources.clone(), secret.as_ref());
    if let Some(cache) = cache() {
        reports = reports.indexed_in(&cache);
    }
    reports.update()?;
    let groups = reports.groups(|about| id.as_deref().is_none_or(|id| may_be(about, id)));
    remark(&reports.looked_at());
    if secret.is_none() && !groups.is_empty() {
        let place = secret::directory()?;
        eprintln!(
            "no secret in {}, so nothing can be proved; --secret names another file",
            plain(&place.display().to_string())
        );
    }
    let view = view();
    let told = match (id, as_json) {
        (None, false) => list(&groups, &view)?,
        (id, as_json) => whole(groups.trails(), id.as_deref(), as_json, &view)?,
    };
    if told.outcome.is_none() {
        remark_on_nothing(&reports.looked_at(), &told, &sources);
    }
    Ok(ExitCode::from(exit_code(told.outcome)))
}

/// Where hoptrail may keep what can be made anew: `$XDG_CACHE_HOME/hoptrail`, else `~/.cache/hoptrail`.
fn cache() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let user = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(user?.join("hoptrail"))
}

/// What the answer says, in short.
#[derive(Default)]
struct Told {
    /// The worst of all messages; `None` without a message.
    outcome: Option<Outcome>,
    /// Not all of them are proved.
    unproved: bool,
    not_ours: Vec<NotOurs>,
}

impl Told {
    fn of(trails: Trails) -> Self {
        Self {
            outcome: trails.messages.iter().map(Message::outcome).min(),
            unproved: trails.messages.iter().any(terminal::is_unproved),
            not_ours: trails.not_ours,
        }
    }

    fn add(&mut self, more: Self) {
        self.outcome = self.outcome.into_iter().chain(more.outcome).min();
        self.unproved |= more.unproved;
        self.not_ours.extend(more.not_ours);
    }
}

/// Prints every message in a line, while others are still being put together.
fn list(groups: &Groups, view: &View) -> anyhow::Result<Told> {
    /// So many that a list that is read at a glance is laid out as one.
    const LINES: usize = 200;
    let id_width = terminal::id_width(groups.ids(), view);
    let lines = |trails: Trails| {
        let lines = terminal::lines(&trails.messages, id_width, view);
        (lines, Told::of(trails))
    };
    let mut told = Told::default();
    groups.in_parts(LINES, lines, |(lines, more)| {
        told.add(more);
        print(&lines)
    })?;
    if told.unproved {
        print(&terminal::unproved_remark())?;
    }
    print(&terminal::not_ours(&told.not_ours, view))?;
    Ok(told)
}

/// Prints the messages asked for with everything that is known of them.
fn whole(mut trails: Trails, id: Option<&str>, as_json: bool, view: &View) -> anyhow::Result<Told> {
    if let Some(id) = id {
        select(&mut trails, id)?;
    }
    print(&if as_json {
        json::document(&trails, view.now_us)
    } else {
        let each = trails.messages.iter().map(|m| terminal::message(m, view));
        each.collect::<Vec<_>>().join("\n") + &terminal::not_ours(&trails.not_ours, view)
    })?;
    Ok(Told::of(trails))
}

/// The sources, and the id of the message that is asked for. The first word is a source; a later one is if it looks
/// like one or there is such a file.
fn sources(words: &[OsString]) -> anyhow::Result<(Vec<Source>, Option<String>)> {
    let (mut sources, mut id) = (Vec::new(), None);
    for (n, word) in words.iter().enumerate() {
        let text = word.to_string_lossy();
        let looks = text == "-" || text.starts_with(['/', '.']) || text.contains("://");
        if n == 0 || looks || Path::new(word).exists() {
            sources.push(Source::named(word)?);
        } else if let Some(id) = id.replace(text.into_owned()) {
            let id = plain(&id);
            bail!("{id} is no file; if it is the id of a message, no other can be asked for");
        }
    }
    Ok((sources, id))
}

/// What cannot stand in the answer itself goes to standard error.
fn remark(trails: &Trails) {
    const SHOWN: usize = 5;
    let skipped = trails.skipped.len();
    if skipped > 0 {
        let mails = if skipped == 1 { "mail" } else { "mails" };
        eprintln!("{skipped} {mails} skipped: unreadable, though marked as tracking reports");
    }
    for (place, why) in trails.skipped.iter().take(SHOWN) {
        eprintln!("  {}: {}", plain(place), plain(why));
    }
    if skipped > SHOWN {
        eprintln!("  and {} more", skipped - SHOWN);
    }
}

/// Why there is no message in the answer.
fn remark_on_nothing(trails: &Trails, told: &Told, sources: &[Source]) {
    let mails = match trails.counts {
        Counts { mails: 0, .. } => "is empty".to_owned(),
        Counts {
            mails: 1,
            reports: 0,
        } => "holds 1 mail, no tracking report".to_owned(),
        Counts { mails, reports: 0 } => {
            format!("holds {mails} mails, no tracking report among them")
        }
        _ if told.not_ours.len() == trails.counts.reports => {
            eprintln!("no report on mail sent with your secret; --secret names another one");
            return;
        }
        _ => return,
    };
    let names: Vec<String> = sources.iter().map(Source::to_string).collect();
    eprintln!("{}: {mails}", plain(&names.join(", ")));
}

/// Whether a report may be about the message that `wanted` names.
fn may_be(about: &About, wanted: &str) -> bool {
    about.id.starts_with(wanted) || about.message_id == Some(bare(wanted))
}

/// A Message-ID without its brackets.
fn bare(id: &str) -> &str {
    id.trim_start_matches('<').trim_end_matches('>')
}

/// Keeps what `wanted` names. Several messages may bear one tracking id or Message-ID; all are kept.
fn select(trails: &mut Trails, wanted: &str) -> anyhow::Result<()> {
    let bare = Some(bare(wanted));
    let named = |m: &Message| m.id.as_str() == wanted || m.message_id.as_deref() == bare;
    let begun = |m: &Message| m.id.as_str().starts_with(wanted);
    if trails.messages.iter().any(named) {
        trails.messages.retain(named);
    } else {
        trails.messages.retain(begun);
        let mut ids: Vec<&str> = trails.messages.iter().map(|m| m.id.as_str()).collect();
        ids.dedup();
        if ids.len() > 1 {
            bail!("{wanted} begins several ids: {}", ids.join(", "));
        }
    }
    let kept = |id: &TrackingId| trails.messages.iter().any(|m| m.id == *id);
    trails
        .not_ours
        .retain(|n| kept(&n.id) || n.id.as_str().starts_with(wanted));
    if trails.messages.is_empty() {
        eprintln!("no report on {}", plain(wanted));
    }
    Ok(())
}

fn exit_code(worst: Option<Outcome>) -> u8 {
    match worst {
        Some(Outcome::Delivered) => 0,
        Some(Outcome::Open) => 1,
        Some(Outcome::Failed) => 3,
        None => 4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::report::Received;
    use crate::track::{Event, HopReport, RecipientStatus, Role, Status, StepId};
    use crate::trail::assemble::assemble;

    fn trails(messages: &[(&str, &str, Event)]) -> Trails {
        let received = (0..)
            .zip(messages)
            .map(|(n, (id, message_id, event))| Received {
                others: vec![],
                report: HopReport {
                    id: TrackingId::new(id).unwrap(),
                    step: StepId(n),
                    parent: None,
                    hop: 1,
                    role: Role::Egress,
                    reporting_mta: "mx".to_owned(),
                    arrival_us: 0,
                    message_id: Some((*message_id).to_owned()),
                    sent_ms: None,
                    queue_id: None,
                    size: None,
                    times_in: vec![],
                    tls_in: None,
                    tls_out: None,
                    times_out: vec![],
                    recipients: vec![RecipientStatus {
                        original: "bob@example.net".to_owned(),
                        recipient: "bob@example.net".to_owned(),
                        event: *event,
                        status: Status::of_class(2),
                        remote_mta: None,
                        attempted_us: None,
                        reply: None,
                        remote_queue_id: None,
                    }],
                },
                auth: None,
                canonical: vec![],
                from: None,
            });
        Trails {
            messages: assemble(received.collect(), None).0,
            ..Trails::default()
        }
    }

    fn found(wanted: &str) -> Result<Vec<String>, String> {
        let mut trails = trails(&[
            ("abc1", "m1@x", Event::Delivered),
            ("abc12", "m2@x", Event::Failed),
            ("zz", "m1@x", Event::Relayed),
        ]);
        select(&mut trails, wanted).map_err(|e| e.to_string())?;
        Ok(trails.messages.iter().map(|m| m.id.to_string()).collect())
    }

    #[test]
    fn a_message_is_found_by_each_of_its_names() {
        let ids = |ids: &[&str]| Ok(ids.iter().map(|i| (*i).to_owned()).collect());
        assert_eq!(
            found("abc1"),
            ids(&["abc1"]),
            "a whole id goes before a beginning"
        );
        assert_eq!(found("abc12"), ids(&["abc12"]));
        assert_eq!(found("z"), ids(&["zz"]));
        assert_eq!(found("m2@x"), ids(&["abc12"]));
        assert_eq!(found("<m1@x>"), ids(&["abc1", "zz"]));
        assert_eq!(found("nothing"), ids(&[]));
        assert!(found("ab").unwrap_err().contains("abc1, abc12"));
    }

    #[test]
    fn exit_codes_tell_the_worst() {
        let code = |events: &[Event]| {
            let all: Vec<_> = events.iter().map(|e| (e.as_str(), "m@x", *e)).collect();
            exit_code(trails(&all).messages.iter().map(Message::outcome).min())
        };
        assert_eq!(code(&[]), 4);
        assert_eq!(code(&[Event::Delivered]), 0);
        assert_eq!(code(&[Event::Delivered, Event::Failed, Event::Delayed]), 3);
        for open in [
            Event::Accepted,
            Event::Transferred,
            Event::Relayed,
            Event::Expanded,
            Event::Delayed,
            Event::Held,
        ] {
            assert_eq!(code(&[Event::Delivered, open]), 1, "{open}");
        }
    }
}
