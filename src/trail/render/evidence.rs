//! Evidence in words: what an archive proves, and what it does not.

mod words;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::format::{fill_all, plain, put};
use super::{View, html, json};
use crate::report::{Keys, Origin};
use crate::trail::bundle::Bundle;
use crate::trail::examine::misfits;
use crate::trail::verify::{Agreement, agreement};
use crate::trail::{Message, Trails, Truth, Why};

/// How much of an archive holds; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// All of it, and every report is signed by the domain of its host.
    All,
    /// Nothing is wrong, and something is not proved.
    Partly,
    /// Something is wrong.
    Not,
}

/// The verdict that lies in an archive for people, a page.
pub fn picture(trails: &Trails, made_us: i64) -> String {
    let view = View {
        now_us: made_us,
        zone: TimeZone::UTC,
        width: None,
        colours: false,
    };
    html::page(trails, &view)
}

/// The one that lies there for programs.
pub fn verdict(trails: &Trails, made_us: i64) -> String {
    json::document(trails, made_us)
}

/// Of what an archive is.
pub fn held(trails: &Trails) -> String {
    let counted = |n, one: &str, several: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {several}"),
    };
    let reports = counted(trails.counts.reports, "report", "reports");
    match notices(trails) {
        0 => reports,
        n => format!("{reports} and {}", counted(n, "notice", "notices")),
    }
}

/// How many of its mails are notices of other mail systems.
fn notices(trails: &Trails) -> usize {
    trails.counts.mails.saturating_sub(trails.counts.reports)
}

/// One finding.
struct Finding {
    holds: Holds,
    text: String,
}

/// What an archive proves that is intact and was judged anew; `today` are its keys as the DNS has them now.
pub fn report(
    bundle: &Bundle,
    trails: &Trails,
    today: Option<&Keys>,
    view: &View,
) -> (Holds, String) {
    let apart = apart(bundle, trails);
    let mut findings = words::hold(bundle, trails);
    findings.extend([
        solicited(trails),
        signed(trails, apart.is_empty()),
        agreed(trails),
    ]);
    findings.extend(misfitting(bundle));
    findings.extend(apart);
    findings.extend(unanswered(&bundle.contents.keys));
    if let Some(today) = today {
        findings.extend(keys_today(&bundle.contents.keys, today));
    }
    let mut out = String::new();
    let mut line = |mark: &str, text: &str| {
        for (n, line) in fill_all(text, view.room(4)).iter().enumerate() {
            let mark = if n == 0 { mark } else { " " };
            put(&mut out, format_args!("  {mark} {line}\n"));
        }
    };
    for finding in &findings {
        let mark = match finding.holds {
            Holds::All => "✓",
            Holds::Partly => "?",
            Holds::Not => "✗",
        };
        line(mark, &finding.text);
    }
    for limit in limits(bundle, trails, view) {
        line("–", &limit);
    }
    let holds = findings.iter().map(|f| f.holds).max();
    (holds.unwrap_or(Holds::Not), out)
}

fn finding(holds: Holds, text: impl Into<String>) -> Finding {
    Finding {
        holds,
        text: text.into(),
    }
}

fn solicited(trails: &Trails) -> Finding {
    let proved = |m: &&Message| m.truth == Truth::Verified;
    match trails.messages.iter().filter(proved).count() {
        n if n == trails.messages.len() && n > 0 => finding(
            Holds::All,
            "every report was asked for: it carries the key of its message",
        ),
        _ => finding(
            Holds::Partly,
            "nothing shows that every report was asked for",
        ),
    }
}

/// Who signed the reports that count: all there are, or else the others.
fn signed(trails: &Trails, all_count: bool) -> Finding {
    let (every, of_all) = if all_count {
        ("every report", "reports")
    } else {
        ("every other report", "other reports")
    };
    let origins = || {
        let steps = |m: &'_ Message| {
            m.stays
                .iter()
                .flat_map(|s| &s.steps)
                .map(|s| m.origin(s.step).clone())
                .collect::<Vec<_>>()
        };
        trails.messages.iter().flat_map(steps)
    };
    let domain = |origin| match origin {
        Origin::Signed { domain, vouches } => vouches.then_some(domain),
        _ => None,
    };
    let vouched: Vec<String> = origins().filter_map(domain).collect();
    let (n, all) = (vouched.len(), origins().count());
    let domains: BTreeSet<String> = vouched.iter().map(|d| plain(d)).collect();
    let domains = domains.into_iter().collect::<Vec<_>>().join(", ");
    match n {
        0 => finding(
            Holds::Partly,
            "no report is signed by the domain of its host",
        ),
        n if n == all => {
            let text = format!(
                "{every} is signed by the domain of its host ({domains}) and unchanged since"
            );
            finding(Holds::All, text)
        }
        n => {
            let are = match n {
                1 => "is signed by the domain of its host",
                _ => "are signed by the domain of their host",
            };
            let text = format!("{n} of {all} {of_all} {are} ({domains}) and unchanged");
            finding(Holds::Partly, text)
        }
    }
}

fn agreed(trails: &Trails) -> Finding {
    let stays = |m: &'_ Message| m.stays.iter().map(|s| agreement(m, s)).max();
    match trails.messages.iter().filter_map(stays).max() {
        Some(Agreement::Agrees) => finding(Holds::All, "the reports agree with each other"),
        Some(Agreement::Unlinked) => finding(Holds::Partly, "a report is missing between others"),
        Some(Agreement::OtherHost) => finding(
            Holds::Partly,
            "a report is of another host, and names another queue id, than the hop before it does",
        ),
        Some(Agreement::Apart) => finding(
            Holds::Partly,
            "a hop reported that nobody is known to have handed the message on to",
        ),
        Some(_) => finding(Holds::Partly, "the reports contradict each other"),
        None => finding(Holds::Not, "it holds no report that counts"),
    }
}

/// Of which keys its maker learned nothing.
fn unanswered(keys: &Keys) -> Option<Finding> {
    let keys = keys.0.iter().filter(|(_, key)| key.unanswered);
    let names: Vec<String> = keys.map(|(name, _)| plain(name)).collect();
    let text = || format!("no name server answered its maker for {}", names.join(", "));
    (!names.is_empty()).then(|| finding(Holds::Partly, text()))
}

/// Reports whose signature does not fit: as when the archive was made, or since then.
fn misfitting(bundle: &Bundle) -> Vec<Finding> {
    let mails = bundle.mails.iter().map(Vec::as_slice);
    let misfits = misfits(mails, &bundle.contents.keys);
    let (then, since): (Vec<_>, Vec<_>) = misfits
        .iter()
        .partition(|digest| bundle.contents.misfits.contains(*digest));
    let told = [
        (
            Holds::Not,
            since.len(),
            "does not fit, as it did when the archive was made",
        ),
        (
            Holds::Partly,
            then.len(),
            "did not fit when the archive was made: mail or key was changed before, or it is made up",
        ),
    ];
    let told = told.into_iter().filter(|(_, count, _)| *count > 0);
    told.map(|(holds, count, what)| match count {
        1 => finding(holds, format!("the signature of 1 report in it {what}")),
        n => finding(holds, format!("the signature of {n} reports in it {what}")),
    })
    .collect()
}

/// What anybody can mail to a mailbox was left out when the archive was made, so what is false now was made false since.
fn apart(bundle: &Bundle, trails: &Trails) -> Vec<Finding> {
    let left_out = bundle.contents.left_out.len();
    let in_it = trails.not_ours.len().saturating_sub(left_out);
    let (odd, wrong): (Vec<_>, Vec<_>) = trails
        .not_ours
        .iter()
        .take(in_it)
        .partition(|report| report.why == Why::Contradicted);
    let told = [
        (Holds::Not, wrong.len(), "altered or forged"),
        (
            Holds::Partly,
            odd.len(),
            "contradicted by what a host signed",
        ),
    ];
    let told = told.into_iter().filter(|(_, count, _)| *count > 0);
    told.map(|(holds, count, what)| match count {
        1 => finding(holds, format!("1 report in it is {what}")),
        n => finding(holds, format!("{n} reports in it are {what}")),
    })
    .collect()
}

fn keys_today(recorded: &Keys, today: &Keys) -> Vec<Finding> {
    let (mut others, mut unanswered) = (Vec::new(), Vec::new());
    for (name, then) in &recorded.0 {
        let now = today.0.get(name);
        if now.is_none_or(|now| now.unanswered) {
            unanswered.push(plain(name));
        } else if now.and_then(|now| now.text.as_ref()) != then.text.as_ref() {
            others.push(plain(name));
        }
    }
    if others.is_empty() && unanswered.is_empty() {
        return vec![finding(Holds::All, "the DNS has the same keys today")];
    }
    let told = [
        ("the DNS has other keys or none today for", others),
        ("no name server answered today for", unanswered),
    ];
    let told = told.into_iter().filter(|(_, names)| !names.is_empty());
    told.map(|(what, names)| finding(Holds::Partly, format!("{what} {}", names.join(", "))))
        .collect()
}

/// What no archive can show.
fn limits(bundle: &Bundle, trails: &Trails, view: &View) -> Vec<String> {
    let times = bundle.contents.keys.0.values().map(|key| key.looked_up_us);
    let when = times
        .max()
        .map_or_else(String::new, |us| format!(" on {}", view.date_time(us)));
    let mut limits = vec![
        format!(
            "not shown: that the keys are the domains' own. The archive says what the DNS told its maker{when}; \
             the domains can confirm that"
        ),
        "not shown: that no report was left out, nor when anything happened but by the clocks of the hops".to_owned(),
        "not shown: who made a report that its domain did not sign; whoever has the archive could".to_owned(),
    ];
    let left_out = match bundle.contents.left_out.len() {
        0 => None,
        1 => Some("1 report, as altered or forged".to_owned()),
        n => Some(format!("{n} reports, as altered or forged")),
    };
    limits.extend(left_out.map(|which| format!("left out by its maker: {which}; see below")));
    if notices(trails) > 0 {
        let words =
            "not proved: what other mail systems say in bounces and receipts, marked ? below";
        limits.push(words.to_owned());
    }
    limits
}
