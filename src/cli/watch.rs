//! `hoptrail watch`: the timeline as it grows. On a terminal it is drawn anew with each report; elsewhere each
//! message of which there is news is a line.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use super::mailbox::{self, SOURCES};
use super::progress::Progress;
use super::screen::Screen;
use super::timeline::{PART, asked_for, exit_code, list, people, select};
use super::told::Told;
use super::{secret, view};
use crate::observe::log;
use crate::track::Secret;
use crate::trail::groups::Groups;
use crate::trail::render::format::plain;
use crate::trail::render::{View, json, paint, terminal};
use crate::trail::{Message, NotOurs, Reports, Source, SourceError, Trails};

const EXIT_CODES: &str = "\
A Maildir is looked at all the time, a server every 20 seconds with a login of its own.
It goes on until it is told to stop (Ctrl-C, SIGTERM), or with --until-done. Its exit
code is that of `timeline`, by what was known then: 0 delivered, 1 on its way or nobody
can say, 2 usage or I/O error, 3 failed, 4 nothing found.

  hoptrail watch ~/Maildir               every message, as reports come
  timeout 60 hoptrail watch ~/Maildir ID --until-done
                                         for scripts; 124: not done within a minute";

/// How often it is looked whether a mailbox has changed: its folders are asked for their times, no mail is opened.
const LOOK: Duration = Duration::from_millis(200);

/// How long after one that failed the next look at a mailbox is.
const AGAIN: Duration = Duration::from_secs(2);

/// How often a server is asked whether there is more.
const ASK: Duration = Duration::from_secs(20);

/// The times of files are as exact as this at worst: a change within it may not show.
const GRANULE: Duration = Duration::from_secs(1);

/// News that is said in one piece, octets: all of it, where it is not that of a whole large mailbox.
const TOGETHER_OCTETS: usize = 1 << 20;

/// Lines of a message that stay in view where it is too long for the terminal: verdict and recipients.
const HEAD_LINES: usize = 8;

/// Show where tracked mail is, live: each report as it comes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = [SOURCES, EXIT_CODES].concat())]
#[command(override_usage = "hoptrail watch [OPTIONS] SOURCE... [ID]")]
pub struct Args {
    /// Where the reports come, such as ~/Maildir; and, to see every hop of one message, its tracking id or a unique
    /// beginning of it, or its Message-ID
    #[arg(required = true, value_name = "SOURCE... [ID]")]
    words: Vec<OsString>,
    /// End when there is a message and no more news can come: everyone has it or will not get it, or the trail ends
    #[arg(long)]
    until_done: bool,
    /// Print each message of which there is news as a line of JSON (schema hoptrail.line/1)
    #[arg(long)]
    json_lines: bool,
    /// Prove reports with the secret in this file instead of the user's own
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    #[command(flatten)]
    access: mailbox::Access,
}

/// Runs the command. An error is for exit code 2.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let secret = secret::load_or_named(args.secret.as_deref())?;
    let known = Arc::new(AtomicU8::new(exit_code(None)));
    let so_far = Arc::clone(&known);
    let watching = tokio::task::spawn_blocking(move || watch(&args, secret.as_ref(), &so_far));
    tokio::select! {
        ended = watching => ended??,
        _ = interrupt.recv() => stop(&known),
        _ = terminate.recv() => stop(&known),
    }
    Ok(ExitCode::from(known.load(Ordering::Relaxed)))
}

/// Ends at once, however long a mailbox is being read; what is being written is written to its end.
fn stop(known: &AtomicU8) {
    let _whole = io::stdout().lock();
    std::process::exit(known.load(Ordering::Relaxed).into());
}

/// Shows what there is, then what changes, until all is done or nobody reads any more.
fn watch(args: &Args, secret: Option<&Secret>, known: &AtomicU8) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal() && !args.json_lines;
    let mut live = Live::default();
    let mut news = News::default();
    let (sources, id) = args.access.sources(&args.words)?;
    if sources.contains(&Source::Stdin) {
        bail!("what standard input gives is read once; `hoptrail timeline -` shows it");
    }
    let mut reports = mailbox::reports(&sources, secret);
    let (mut waits, mut trouble) = (false, Trouble::default());
    loop {
        let mark = Mark::of(&sources);
        let progress = terminal.then(|| Progress::of(&reports, &sources));
        let updated = reports.update();
        drop(progress);
        if !trouble.is_over(updated)? {
            thread::sleep(AGAIN);
            continue;
        }
        let groups = asked_for(&reports, id.as_deref());
        if groups.is_empty() && !terminal && !std::mem::replace(&mut waits, true) {
            log::say(&format!(
                "no report{} yet; waiting for the first",
                on(id.as_deref())
            ));
        }
        let told = if terminal {
            live.show(&reports, &groups, id.as_deref(), known)
        } else {
            news.tell(&groups, id.as_deref(), args.json_lines, known)
                .and_then(|told| news.tell_skipped(&reports, args.json_lines).map(|()| told))
        };
        let told = match told {
            Err(why) if is_unread(&why) => return Ok(()),
            told => told?,
        };
        if args.until_done && told.is_done() {
            return Ok(());
        }
        let growing = reports.are_growing();
        while !mark.is_old(&sources, growing) {
            thread::sleep(LOOK);
        }
    }
}

/// A mailbox that was read once and cannot be read now: a server that starts anew, a disk that is away. It is waited for.
#[derive(Default)]
struct Trouble {
    was_read: bool,
    told: bool,
}

impl Trouble {
    /// Whether the mailbox was read. That it was not is an error at first, and later told once.
    fn is_over<T>(&mut self, updated: Result<T, SourceError>) -> Result<bool, SourceError> {
        match updated {
            Err(why) if self.was_read => {
                if !std::mem::replace(&mut self.told, true) {
                    log::say(&format!(
                        "{}; tried again until it can be read",
                        plain(&why.to_string())
                    ));
                }
                Ok(false)
            }
            Err(why) => Err(why),
            Ok(_) => {
                *self = Self {
                    was_read: true,
                    told: false,
                };
                Ok(true)
            }
        }
    }
}

/// On what reports are waited for.
fn on(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" on {}", plain(id)))
}

/// Whether nobody reads any more what is said.
fn is_unread(why: &anyhow::Error) -> bool {
    let why = why.downcast_ref::<io::Error>();
    why.is_some_and(|why| why.kind() == ErrorKind::BrokenPipe)
}

/// Prints in one piece.
fn say(text: &str) -> io::Result<()> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// The messages asked for by an id, with all that is told of them.
fn whole(groups: &Groups, id: &str) -> anyhow::Result<Trails> {
    let mut trails = groups.trails();
    select(&mut trails, id)?;
    Ok(trails)
}

/// When the places of mails were changed: what tells that a mail came without reading one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    looked: SystemTime,
    changed: Vec<(PathBuf, Option<SystemTime>)>,
}

impl Mark {
    fn of(sources: &[Source]) -> Self {
        let looked = SystemTime::now();
        let changed = |path: PathBuf| {
            let time = fs::metadata(&path).and_then(|m| m.modified()).ok();
            (path, time)
        };
        let places = sources.iter().flat_map(Source::places);
        Self {
            looked,
            changed: places.map(changed).collect(),
        }
    }

    /// Whether something has changed since, or can have without having left a trace, as a mail does that is `growing`.
    fn is_old(&self, sources: &[Source], growing: bool) -> bool {
        let now = Self::of(sources);
        let newest = self.changed.iter().filter_map(|(_, time)| *time).max();
        let traceless = newest.is_some_and(|newest| {
            let since = self.looked.duration_since(newest);
            since.is_ok_and(|since| since < GRANULE)
        });
        let passed = now.looked.duration_since(self.looked);
        let passed = passed.unwrap_or_default();
        let on_server = |source: &Source| matches!(source, Source::Imap(_));
        self.changed != now.changed
            || (traceless || growing) && passed >= GRANULE
            || passed >= ASK && sources.iter().any(on_server)
    }
}

/// The terminal, on which the last answer is drawn over.
#[derive(Default)]
struct Live {
    screen: Screen,
    shown: String,
}

impl Live {
    /// Draws the answer if it is another one.
    fn show(
        &mut self,
        reports: &Reports,
        groups: &Groups,
        id: Option<&str>,
        known: &AtomicU8,
    ) -> anyhow::Result<Told> {
        let view = view();
        let mut answer = String::new();
        let told = if let Some(id) = id {
            let trails = whole(groups, id)?;
            answer = people(&trails, true, &view);
            Told::of(&trails)
        } else {
            list(groups, reports.unread(), &view, |lines| {
                answer.push_str(lines);
                Ok(())
            })?
        };
        known.store(exit_code(told.outcome()), Ordering::Relaxed);
        if answer != self.shown || self.shown.is_empty() {
            let count = reports.looked_at().counts.reports;
            let kept = id.map_or(0, |_| HEAD_LINES);
            say(&self.draw(answer, count, kept, &view))?;
        }
        Ok(told)
    }

    /// An answer out of so many reports; its first lines stay where it is too long.
    fn draw(&mut self, answer: String, reports: usize, kept: usize, view: &View) -> String {
        let now = view.stamp(view.now_us);
        let plural = if reports == 1 { "" } else { "s" };
        let status = format!("{reports} report{plural}, {now}; Ctrl-C ends");
        let status = paint::paint(paint::DIM, &status);
        let text = format!("{answer}{status}\n");
        let text = Screen::fit(&text, kept);
        self.shown = answer;
        self.screen.next(&text) + "\n"
    }
}

/// What was told before, so that only news is.
#[derive(Default)]
struct News {
    told: HashMap<(String, Option<String>), u64>,
    apart: HashSet<NotOurs>,
    skipped: HashSet<(String, String)>,
}

impl News {
    /// Says what was not said before, while other messages are still being put together.
    fn tell(
        &mut self,
        groups: &Groups,
        id: Option<&str>,
        as_json: bool,
        known: &AtomicU8,
    ) -> anyhow::Result<Told> {
        let (mut told, mut text) = (Told::default(), String::new());
        let mut take = |mut trails: Trails| {
            told.add(Told::of(&trails));
            self.keep(&mut trails);
            text.push_str(&lines(&trails, as_json));
            if text.len() < TOGETHER_OCTETS {
                return Ok(());
            }
            // Who is told knows the exit code by it.
            known.store(exit_code(told.outcome()), Ordering::Relaxed);
            say(&std::mem::take(&mut text))
        };
        match id {
            Some(id) => take(whole(groups, id)?)?,
            None => groups.in_parts(PART, |trails| trails, take)?,
        }
        known.store(exit_code(told.outcome()), Ordering::Relaxed);
        say(&text)?;
        Ok(told)
    }

    /// Says what could not be read and was not said to be before; of what may still be being written not yet.
    fn tell_skipped(&mut self, reports: &Reports, as_json: bool) -> anyhow::Result<()> {
        if reports.are_growing() {
            return Ok(());
        }
        let mut skipped = reports.looked_at().skipped;
        skipped.retain(|place| self.skipped.insert(place.clone()));
        if as_json {
            say(&json::lines_skipped(&skipped))?;
        } else {
            mailbox::remark(&skipped);
        }
        Ok(())
    }

    /// Leaves the messages and the reports set apart that were not told of like this before.
    fn keep(&mut self, trails: &mut Trails) {
        trails.messages.retain(|message| {
            let key = (message.id.as_str().to_owned(), message.message_id.clone());
            let now = fingerprint(message);
            self.told.insert(key, now) != Some(now)
        });
        trails.not_ours.retain(|n| self.apart.insert(n.clone()));
    }
}

/// A line for each message and each report set apart.
fn lines(trails: &Trails, as_json: bool) -> String {
    let view = View {
        width: None,
        ..view()
    };
    if as_json {
        return json::lines(&trails.messages, view.now_us) + &json::lines_apart(&trails.not_ours);
    }
    let now = view.stamp(view.now_us);
    let messages = trails.messages.iter();
    let messages = messages.map(|m| format!("{now}  {}", terminal::line(m, &view)));
    let apart = trails.not_ours.iter().map(|n| {
        let (id, host) = (plain(n.id.as_str()), plain(&n.host));
        format!("{now}  {id}  ✗  left out: a report of {host} has a wrong proof\n")
    });
    messages.chain(apart).collect()
}

/// What tells a message from itself with more reports.
fn fingerprint(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    let steps = message.stays.iter().map(|stay| stay.steps.len());
    let others = (message.unproved, &message.left_out, &message.unproved_hosts);
    let others = (others, &message.unproved_next, &message.names);
    (steps.sum::<usize>(), others).hash(&mut hasher);
    format!("{:?}", message.recipients).hash(&mut hasher);
    hasher.finish()
}
