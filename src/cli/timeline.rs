//! `hoptrail timeline`: what the reports in a mailbox tell.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::evidence::Evidence;
use super::mailbox::{self, SOURCES};
use super::page::Page;
use super::progress::Progress;
use super::told::Told;
use super::{print, secret, view};
use crate::observe::log;
use crate::track::{Secret, TrackingId};
use crate::trail::examine::with_one_inside;
use crate::trail::groups::Groups;
use crate::trail::render::format::plain;
use crate::trail::render::line::Line;
use crate::trail::render::{View, html, json, terminal};
use crate::trail::reports::About;
use crate::trail::{Counts, Message, Outcome, Reports, Source, Trails, Truth};

const DELAYS: &str = "\
A hop tells of a delay when it begins, again for each other reason, and after
15 minutes, 1 hour, 4 hours and daily, not at each attempt: what waits may have
been tried since.

";

const EXIT_CODES: &str = "\
Exit codes:
  0  everything asked about is delivered
  1  still on its way, or nobody can say: the trail ends at a hop that does not
     report, or there is a secret and no report on the message is proved by it
     (the ? in the list)
  2  usage or I/O error
  3  something failed
  4  nothing found
Beside messages that are proved to be yours no others count.";

/// Show where tracked mail is, from the reports in a mailbox.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = [SOURCES, DELAYS, EXIT_CODES].concat())]
#[command(override_usage = "hoptrail timeline [OPTIONS] SOURCE... [ID]")]
pub struct Args {
    /// Where the reports are, such as ~/Maildir; and, to see every hop of one message, its tracking id or a unique
    /// beginning of it, or its Message-ID
    #[arg(required = true, value_name = "SOURCE... [ID]")]
    words: Vec<OsString>,
    /// Print JSON (schema hoptrail.timeline/1), the same fields for one message or all
    #[arg(long)]
    json: bool,
    /// Print JSON Lines (schema hoptrail.line/1): each message a line, with the same fields
    #[arg(long, conflicts_with = "json")]
    json_lines: bool,
    /// Also write it as a web page to FILE: it stands alone, and shows every hop of every message; an older page there
    /// is replaced, nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Prove reports with the secret in this file instead of the user's own
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Look up who signed the reports (DKIM), by the system's name servers or this one; else nobody is asked
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true)]
    #[allow(clippy::option_option)] // As clap has it: not given, without a value, with one.
    dns: Option<Option<SocketAddr>>,
    /// Write the reports, the bounces and receipts joined to them, the keys of those who signed them (looked up now) and the verdict to this tar
    /// file, as evidence that `hoptrail verify` checks off-line; your secret is not in it
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    access: mailbox::Access,
}

/// Runs the command. An error is for exit code 2.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let secret = secret::load_or_named(args.secret.as_deref())?;
    let (sources, id) = args.access.sources(&args.words)?;
    let page = args.page(&sources)?;
    let mut reports = mailbox::reports(&sources, secret.as_ref());
    let progress = args
        .is_for_people()
        .then(|| Progress::of(&reports, &sources));
    reports.update()?;
    drop(progress);
    let groups = asked_for(&reports, id.as_deref());
    mailbox::remark(&reports.looked_at().skipped);
    if secret.is_none() && !groups.is_empty() {
        let place = secret::directory()?;
        log::say(&format!(
            "no secret in {}, so nothing can be proved; --secret names another file",
            plain(&place.display().to_string())
        ));
    }
    let told = if id.is_none() && !args.wants_all_at_once() {
        let view = view();
        if args.json_lines {
            lines(&groups, &reports.looked_at().skipped, &view)?
        } else {
            list(&groups, reports.unread(), &view, print)?
        }
    } else {
        let mut trails = groups.trails();
        if let Some(id) = &id {
            select(&mut trails, id)?;
        }
        judge(&mut trails, args, &sources, secret.as_ref())?;
        whole(&trails, id.is_some(), page.as_ref(), args)?;
        Told::of(&trails)
    };
    reports.keep();
    if told.outcome().is_none() {
        match &id {
            Some(id) => log::say(&format!("no report on {}", plain(id))),
            None => remark_on_nothing(&reports.looked_at(), &told, &sources, secret.is_some()),
        }
    }
    Ok(ExitCode::from(exit_code(told.outcome())))
}

impl Args {
    /// Whether it is read at all, and not computed with.
    fn is_for_people(&self) -> bool {
        !self.json && !self.json_lines
    }

    /// Where the page is put, if one is asked for.
    fn page(&self, sources: &[Source]) -> anyhow::Result<Option<Page>> {
        let file = self.html.as_deref();
        file.map(|file| Page::at(file, sources)).transpose()
    }

    /// Whether more than a line of each message is asked for.
    fn wants_all_at_once(&self) -> bool {
        self.json || self.html.is_some() || self.dns.is_some() || self.bundle.is_some()
    }
}

/// Messages that are put together at a time, and let go when they are shown: so many that a list that is read at a
/// glance is laid out as one.
pub const PART: usize = 200;

/// Shows every message in a line, while others are still being put together.
pub fn list(
    groups: &Groups,
    unread: usize,
    view: &View,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Told> {
    let id_width = terminal::id_width(groups.ids(), view);
    let draw = |lines: Vec<Line>, not_ours| {
        let drawn = terminal::lines(&lines, id_width, view);
        (drawn, Told::of_lines(&lines, not_ours))
    };
    let mut told = Told::default();
    groups.lines(PART, view, draw, |(lines, more)| {
        told.add(more);
        show(&lines)
    })?;
    if told.has_unproved() {
        show(&terminal::unproved_remark(view))?;
    }
    show(&terminal::not_ours(&told.not_ours, view))?;
    show(&terminal::unread(unread, view))?;
    Ok(told)
}

/// The same for programs.
fn lines(groups: &Groups, skipped: &[(String, String)], view: &View) -> io::Result<Told> {
    let lines = |trails: Trails| {
        let lines = json::lines(&trails.messages, view.now_us);
        (lines, Told::of(&trails))
    };
    let mut told = Told::default();
    groups.in_parts(PART, lines, |(lines, more)| {
        told.add(more);
        print(&lines)
    })?;
    print(&json::lines_apart(&told.not_ours))?;
    print(&json::lines_skipped(skipped))?;
    Ok(told)
}

/// Judges who wrote the reports, where that is asked for, and keeps the evidence.
fn judge(
    trails: &mut Trails,
    args: &Args,
    sources: &[Source],
    secret: Option<&Secret>,
) -> anyhow::Result<()> {
    if args.dns.is_none() && args.bundle.is_none() {
        return Ok(());
    }
    let evidence = Evidence::gather(sources, trails, secret, args.dns.flatten())?;
    let judged = evidence.judge(secret);
    if let Some(file) = args.bundle.as_ref().filter(|_| !trails.messages.is_empty()) {
        evidence.archive(secret, file)?;
    }
    let before = std::mem::replace(&mut trails.messages, judged.messages);
    trails.not_ours = judged.not_ours;
    // Of a message that an unproved one names the mails were looked at as well.
    let named: Vec<&TrackingId> = before.iter().flat_map(|m| &m.names).collect();
    let is_asked = |message: &Message| before.iter().any(|m| m.id == message.id);
    trails
        .messages
        .retain(|m| !named.contains(&&m.id) || is_asked(m));
    // Of the reports that name a message under another id without proof no mail was looked at again.
    for message in &mut trails.messages {
        let mut same = before
            .iter()
            .filter(|m| m.id == message.id && m.truth == message.truth);
        if let Some(before) = same.next() {
            message.unproved_hosts.extend(before.unproved_hosts.clone());
            message.unproved_next.extend(before.unproved_next.clone());
        }
    }
    Ok(())
}

/// Prints messages with everything that is asked for.
fn whole(trails: &Trails, hops: bool, page: Option<&Page>, args: &Args) -> anyhow::Result<()> {
    let view = view();
    if let Some(page) = page {
        page.write(&html::page(trails, &view))?;
    }
    let text = if args.json {
        json::document(trails, view.now_us)
    } else if args.json_lines {
        [
            json::lines(&trails.messages, view.now_us),
            json::lines_apart(&trails.not_ours),
            json::lines_skipped(&trails.skipped),
        ]
        .concat()
    } else {
        people(trails, hops, &view)
    };
    Ok(print(&text)?)
}

/// Why there is no message in the answer.
fn remark_on_nothing(trails: &Trails, told: &Told, sources: &[Source], has_secret: bool) {
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
            log::say(none_counts(has_secret));
            return;
        }
        _ => return,
    };
    let names: Vec<String> = sources.iter().map(Source::to_string).collect();
    let inside = inside_others(trails, sources);
    log::say(&format!("{}: {mails}{inside}", plain(&names.join(", "))));
}

/// What is said of reports that are no mails of their own, where all mails were understood, and are no more than can be
/// looked through once more.
fn inside_others(trails: &Trails, sources: &[Source]) -> String {
    const MAILS_MAX: usize = 10_000;
    let is_all = trails.counts.reports == 0 && trails.skipped.is_empty();
    let few = is_all && (1..=MAILS_MAX).contains(&trails.counts.mails);
    match few.then(|| with_one_inside(sources)).flatten() {
        None | Some(0) => String::new(),
        Some(1) => "; 1 mail holds one inside another mail, which is not read".to_owned(),
        Some(n) => format!("; {n} mails hold one inside another mail, which is not read"),
    }
}

/// Where each report was left out, and the answer says why.
fn none_counts(has_secret: bool) -> &'static str {
    if has_secret {
        "no report is proved by your secret: they are about another user's mail (--secret names another secret), or were \
         changed on the way"
    } else {
        "no report that counts"
    }
}

/// The reports on the message that `id` names, or on all.
pub fn asked_for<'a>(reports: &'a Reports, id: Option<&str>) -> Groups<'a> {
    match id {
        Some(id) => reports.groups(|about| may_be(about, id)),
        None => reports.all(),
    }
}

/// Whether a report may be about the message that `wanted` names.
fn may_be(about: &About, wanted: &str) -> bool {
    about.id.starts_with(wanted) || about.message_id == Some(bare(wanted))
}

/// A Message-ID without its brackets.
fn bare(id: &str) -> &str {
    id.trim_start_matches('<').trim_end_matches('>')
}

/// Keeps what `wanted` names: what is proved before all else, since anybody can make up an id that fits better. Several
/// messages may bear one tracking id or Message-ID; all are kept.
pub fn select(trails: &mut Trails, wanted: &str) -> anyhow::Result<()> {
    let bare = Some(bare(wanted));
    let bears = |m: &Message, is: &dyn Fn(&str) -> bool| m.ids().any(|id| is(id.as_str()));
    let named = |m: &Message| bears(m, &|id| id == wanted) || m.message_id.as_deref() == bare;
    let begun = |m: &Message| bears(m, &|id| id.starts_with(wanted));
    let messages = &mut trails.messages;
    if messages
        .iter()
        .any(|m| is_proved(m) && (named(m) || begun(m)))
    {
        messages.retain(is_proved);
    }
    if messages.iter().any(named) {
        messages.retain(named);
    } else {
        messages.retain(begun);
        let mut ids: Vec<&str> = messages.iter().map(|m| m.id.as_str()).collect();
        ids.dedup();
        if ids.len() > 1 {
            bail!("{wanted} begins several ids: {}", ids.join(", "));
        }
    }
    let kept = |id: &TrackingId| trails.messages.iter().any(|m| m.ids().any(|of| of == id));
    trails
        .not_ours
        .retain(|n| kept(&n.id) || n.id.as_str().starts_with(wanted));
    Ok(())
}

fn is_proved(message: &Message) -> bool {
    message.truth == Truth::Verified
}

/// The answer for people: a list, or every hop.
pub fn people(trails: &Trails, hops: bool, view: &View) -> String {
    let mut text = String::new();
    if hops {
        let each = trails.messages.iter().map(|m| terminal::message(m, view));
        text.push_str(&each.collect::<Vec<_>>().join("\n"));
    } else {
        text.push_str(&terminal::list(trails, view));
    }
    text.push_str(&terminal::not_ours(&trails.not_ours, view));
    text + &terminal::unread(trails.skipped.len(), view)
}

/// The exit code that tells the worst.
pub fn exit_code(worst: Option<Outcome>) -> u8 {
    match worst {
        Some(Outcome::Delivered) => 0,
        Some(Outcome::Open) => 1,
        Some(Outcome::Failed) => 3,
        None => 4,
    }
}

#[cfg(test)]
mod tests;
