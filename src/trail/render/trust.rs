//! How far the reports on a message can be trusted, in words. What nobody looked at is said to be unknown.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::format::{duration, fill_all, plain, put};
use super::paint::{RED, paint};
use super::{View, words};
use crate::report::Origin;
use crate::trail::odd::{OddClock, Than, odd_clocks};
use crate::trail::verify::{Agreement, agreement};
use crate::trail::{Message, NotOurs, Stay, Truth, Why};

/// Of what anybody can name no more is shown: anybody can mail a report in any name.
pub const SHOWN: usize = 10;

/// What is wrong begins with it.
pub const WRONG: char = '✗';

/// Whether the reports are about mail of this user.
pub fn solicited(message: &Message) -> Cow<'static, str> {
    const NONE: &str = "? none: nothing shows that these reports are about mail you sent";
    match (message.truth, message.names.first()) {
        (Truth::Verified, _) => "✓ every report below carries the key of your message".into(),
        (_, None) => NONE.into(),
        (_, Some(id)) => {
            let id = plain(id.as_str());
            format!("{NONE}; they name the message of trail id {id}, of which others are proved")
                .into()
        }
    }
}

/// What was set aside beside the reports that count.
pub fn set_aside(message: &Message) -> Vec<String> {
    let unproved = match message.unproved {
        0 => None,
        1 => Some("✗ 1 other report has no such key and is left out".to_owned()),
        n => Some(format!(
            "✗ {n} other reports have no such key and are left out"
        )),
    };
    let hosts = message.left_out.iter().take(SHOWN);
    let left_out =
        hosts.map(|host| format!("✗ a report in the name of {} is left out", plain(host)));
    let hosts = message.unproved_hosts.iter().take(SHOWN);
    let of_hosts = hosts.map(|host| {
        let host = plain(host);
        format!("? a report in the name of {host} is not proved")
    });
    let all = unproved.into_iter().chain(left_out);
    all.chain(of_hosts).collect()
}

/// Who wrote the reports: how many are vouched for, then each host that is not.
pub fn origins(message: &Message) -> Vec<String> {
    let steps = || message.stays.iter().flat_map(|stay| &stay.steps);
    let unchecked = |step| *message.origin(step) == Origin::Unchecked;
    if steps().all(|step| unchecked(step.step)) {
        return vec!["? not checked: --dns looks up who signed the reports".to_owned()];
    }
    let all = steps().count();
    let vouched = steps().filter(|step| message.origin(step.step).is_shown());
    let mut lines = match vouched.count() {
        0 => Vec::new(),
        n if n == all && message.left_out.is_empty() => {
            vec!["✓ each report is signed by the domain of its host".to_owned()]
        }
        n if n == all => vec!["✓ each other report is signed by the domain of its host".to_owned()],
        1 => vec![format!(
            "✓ 1 of {all} reports is signed by the domain of its host"
        )],
        n => vec![format!(
            "✓ {n} of {all} reports are signed by the domain of their host"
        )],
    };
    let mut others = BTreeSet::new();
    for step in steps() {
        let host = plain(&step.reporting_mta);
        let what = match message.origin(step.step) {
            Origin::Signed { vouches: true, .. } => continue,
            Origin::Signed { domain, .. } => {
                format!("signed by {}, which is not its domain", plain(domain))
            }
            Origin::NoKey { domain } => format!("signed, but {} shows no key", plain(domain)),
            Origin::NoAnswer { domain } => format!(
                "signed, but no name server answered for the key of {}",
                plain(domain)
            ),
            Origin::UnfitKey { domain } => format!(
                "signed, but the key of {} is malformed, not for mail, on trial, or does not go with the signature",
                plain(domain)
            ),
            Origin::Altered { domain } => format!(
                "the signature of {} does not fit: mail or key was changed since, or it is made up",
                plain(domain)
            ),
            Origin::Unsigned => "not signed".to_owned(),
            Origin::Unchecked => "not checked".to_owned(),
        };
        others.insert(format!("? {host}: {what}"));
    }
    lines.extend(others);
    lines
}

/// Whether the hops agree with each other: each that does not; and whose clock is not that of others, where no hop shows
/// that.
pub fn agreements(message: &Message, view: &View) -> Vec<String> {
    let unlinked = |stay: &Stay| {
        let before = stay.parent.and_then(|parent| message.stays.get(parent));
        let lack = words::lack(message, before.and_then(|before| before.host.as_deref()));
        format!("? the report of the hop before it {lack}")
    };
    let word = |stay: &Stay| -> Option<Cow<str>> {
        Some(match agreement(message, stay) {
            Agreement::Agrees => return None,
            Agreement::Clocks => format!("{WRONG} {}", words::was_set(message, stay)).into(),
            Agreement::Unlinked => unlinked(stay).into(),
            Agreement::OtherHost => {
                "? the hop before it names another host, and another queue id there".into()
            }
            Agreement::Apart => "? nobody is known to have handed it on to there".into(),
            Agreement::Backwards => "✗ by its own clock, something was over before it began".into(),
            Agreement::NotHandedOver => "✗ the hop before it says that it handed nothing on".into(),
            Agreement::Contradicted => "✗ another report says something else of what it did".into(),
        })
    };
    let stays = message.stays.iter().filter(|stay| !stay.is_missing());
    let told = stays.filter_map(|stay| {
        let word = word(stay)?;
        let (mark, text) = word.split_once(' ')?;
        let host = stay.host.as_deref().unwrap_or("(name unknown)");
        Some(format!("{mark} {}: {text}", plain(host)))
    });
    let mut lines: Vec<String> = told.collect();
    lines.dedup();
    if lines.is_empty() {
        lines.push(sound(message).to_owned());
    }
    lines.extend(odd_clocks(message, view.now_us).iter().map(odd));
    lines
}

/// What is so where no hop contradicts another.
fn sound(message: &Message) -> &'static str {
    let told = message.stays.iter().filter(|stay| !stay.is_missing());
    match told.count() {
        0 | 1 => "? one hop alone reports on it, and no other bears that out",
        _ => "✓ the hops agree on who handed on to whom, and when",
    }
}

fn odd(odd: &OddClock) -> String {
    let (host, by) = (plain(odd.host), duration(odd.ahead_us.saturating_abs()));
    match odd.of {
        Than::Reader => format!("? {host}: its clock is ahead of this machine's by {by} or more"),
        Than::Sender => {
            format!("? {host}: its clock is behind the sender's by {by} or more")
        }
    }
}

/// The reports that are part of no message, by the reason; nothing if there are none.
pub fn set_apart(reports: &[NotOurs], view: &View) -> String {
    let whys = [
        Why::WrongProof,
        Why::Altered,
        Why::BrokenSignature,
        Why::Contradicted,
    ];
    let of = |why| reports.iter().filter(|r| r.why == why).collect::<Vec<_>>();
    whys.map(|why| for_one_reason(why, &of(why), view)).concat()
}

fn for_one_reason(why: Why, reports: &[&NotOurs], view: &View) -> String {
    let mut out = String::new();
    if reports.is_empty() {
        return out;
    }
    let count = match reports.len() {
        1 => "1 report".to_owned(),
        n => format!("{n} reports"),
    };
    let reason = reason(why);
    for line in fill_all(&format!("✗ {count} left out: {reason}"), view.room(0)) {
        put(&mut out, format_args!("{}\n", paint(RED, &line)));
    }
    for report in reports.iter().take(SHOWN) {
        let from = report.from.as_deref().unwrap_or("nobody");
        let (host, from) = (view.cut(&report.host, 33), view.cut(from, 34));
        let id = view.cut(report.id.as_str(), view.room(14));
        put(
            &mut out,
            format_args!("    {host} (from {from})\n      message {id}\n"),
        );
    }
    if let Some(more) = reports.len().checked_sub(SHOWN + 1) {
        put(&mut out, format_args!("    and {} more\n", more + 1));
    }
    out
}

/// Why a report is part of no message.
pub fn reason(why: Why) -> &'static str {
    match why {
        Why::WrongProof => {
            "wrong proof: about another user's mail, or changed on the way (as by a gateway that wraps lines anew)"
        }
        Why::Altered => {
            "altered, or made up by somebody who knows the id: the key of your message does not \
             fit what it says"
        }
        Why::BrokenSignature => {
            "altered, or made up in the name of the host: nothing proves it, and its signature does not fit"
        }
        Why::Contradicted => {
            "made up in the name of the host, which says something else under its signature"
        }
    }
}
