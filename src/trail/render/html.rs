//! Trails as one web page that stands alone: no script, nothing from elsewhere, and a policy (CSP) that forbids
//! both, so that even markup which came through would do nothing. It is light or dark as the reader's system is.
//!
//! Strings out of reports are escaped by `maud` wherever they stand; what steers the eye (bidirectional marks,
//! controls) is taken out of the finished page, in one place: [`harmless`].

mod message;
mod spent;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::View;
use super::format::rfc3339;
use super::svg::sign;
use super::terminal::headline;
use super::trust;
use super::verdict::{addresses, verdict};
use crate::track::clean::is_hidden;
use crate::trail::{Message, NotOurs, Outcome, Trails, Truth};

const STYLE: &str = include_str!("html/page.css");

/// Messages shown hop by hop, the newest ones; a browser is not made for more.
const SHOWN_MAX: usize = 1000;
/// Reports with a wrong proof that are named.
const NOT_OURS_MAX: usize = 100;

/// The page: every message in a line, then each with its picture and its hops. A message alone has no list.
pub fn page(trails: &Trails, view: &View) -> String {
    let view = &View {
        width: None,
        ..view.clone()
    };
    let newest: Vec<(usize, &Message)> = trails.messages.iter().enumerate().rev().collect();
    let title = match newest.as_slice() {
        [(_, message)] => headline(message, view),
        all => summary(all),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { (title) " – hoptrail" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (top(&newest))
                main {
                    @if newest.len() > 1 { (list(&newest, view)) }
                    @for (n, message) in newest.iter().take(SHOWN_MAX) {
                        (message::article(*n, message, view))
                    }
                    (not_ours(&trails.not_ours))
                }
                (bottom(trails, view))
            }
        }
    };
    harmless(&page.into_string())
}

/// The page without a character that steers instead of showing. Its own markup has none but line ends.
fn harmless(page: &str) -> String {
    let shown = |c: char| {
        if c != '\n' && is_hidden(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    page.chars().map(shown).collect()
}

/// Nothing may be loaded, run or sent; the one style sheet is known by its digest.
fn policy() -> String {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

fn top(newest: &[(usize, &Message)]) -> Markup {
    html! {
        header.top {
            h1 { "Where the mail is" }
            @match newest {
                [_] => {}
                [] => { p { "No message." } }
                all => { p { (summary(all)) } }
            }
        }
    }
}

/// `3 messages: 1 failed, 2 delivered`.
fn summary(messages: &[(usize, &Message)]) -> String {
    let count = |outcome| {
        messages
            .iter()
            .filter(|(_, m)| m.outcome() == outcome)
            .count()
    };
    let counts = [Outcome::Failed, Outcome::Open, Outcome::Delivered].map(|o| (count(o), word(o)));
    let told = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"));
    let told: Vec<String> = told.collect();
    format!("{} messages: {}", messages.len(), told.join(", "))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "failed",
        Outcome::Open => "not settled",
        Outcome::Delivered => "delivered",
    }
}

/// The sign of an outcome, for the eye; words say the same beside it.
fn outcome_sign(outcome: Outcome) -> Markup {
    let name = match outcome {
        Outcome::Failed => "failed",
        Outcome::Open => "open",
        Outcome::Delivered => "delivered",
    };
    html! { svg.key width="20" height="20" aria-hidden="true" { (sign(name, "10", 10)) } }
}

/// A string of somebody else's, which keeps its direction to itself.
fn foreign(text: &str) -> Markup {
    html! { bdi { (text) } }
}

fn list(newest: &[(usize, &Message)], view: &View) -> Markup {
    html! {
        nav aria-label="Messages" {
            ol.list {
                @for (place, (n, message)) in newest.iter().enumerate() {
                    (line(*n, message, place < SHOWN_MAX, view))
                }
            }
            @if newest.len() > SHOWN_MAX {
                p { "The " (SHOWN_MAX) " newest are shown hop by hop; ask for another one by its id." }
            }
        }
    }
}

fn line(n: usize, message: &Message, linked: bool, view: &View) -> Markup {
    let verdict = verdict(message, view, false);
    let sent_us = message.sent_or_arrived_us();
    html! {
        li {
            (outcome_sign(message.outcome()))
            span {
                @if linked { a href={ "#m" (n) } { (verdict) } } @else { (verdict) }
                @if message.truth != Truth::Verified { " " span.unproved { "unproved" } }
            }
            span { span.unseen { "to " } (to(message)) }
            span.time {
                span.unseen { "sent " }
                time datetime=[rfc3339(sent_us)] { (view.minute(sent_us)) }
            }
        }
    }
}

/// The first recipients, and how many more there are.
fn to(message: &Message) -> Markup {
    const NAMED: usize = 3;
    let addresses = addresses(message);
    html! {
        @for (n, address) in addresses.iter().take(NAMED).enumerate() {
            @if n > 0 { ", " } (foreign(address))
        }
        @if addresses.len() > NAMED { " and " (addresses.len() - NAMED) " more" }
    }
}

fn not_ours(reports: &[NotOurs]) -> Markup {
    if reports.is_empty() {
        return html! {};
    }
    html! {
        section.apart aria-labelledby="apart" {
            h2 id="apart" { (outcome_sign(Outcome::Failed)) "Reports left out: " (reports.len()) }
            table {
                thead { tr {
                    th scope="col" { "Claims to be" } th scope="col" { "Came from" } th scope="col" { "Claims message" }
                    th scope="col" { "Why" }
                } }
                tbody {
                    @for report in reports.iter().take(NOT_OURS_MAX) { tr {
                        td { (foreign(&report.host)) }
                        td { (foreign(report.from.as_deref().unwrap_or("nobody"))) }
                        td.id { (foreign(report.id.as_str())) }
                        td { (trust::reason(report.why)) }
                    } }
                }
            }
            @if let Some(more) = reports.len().checked_sub(NOT_OURS_MAX + 1) {
                p { "And " (more + 1) " more." }
            }
        }
    }
}

fn bottom(trails: &Trails, view: &View) -> Markup {
    html! {
        footer {
            p {
                "As of " time datetime=[rfc3339(view.now_us)] { (view.date_time(view.now_us)) }
                ", out of " (trails.counts.reports) " reports in " (trails.counts.mails) " mails"
                @if !trails.skipped.is_empty() {
                    "; " strong { (trails.skipped.len()) " files or folders could not be read or understood, so reports may be missing" }
                }
                ". Times are those of the first hop that reported, where clocks can be compared. Made by hoptrail "
                (env!("CARGO_PKG_VERSION")) "."
            }
        }
    }
}
