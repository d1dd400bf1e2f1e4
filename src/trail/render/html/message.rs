//! One message on the page: the verdict, what is known of it, the picture, and a table that says the same.

use maud::{Markup, html};

use super::{foreign, outcome_sign, spent};
use crate::track::{HopReport, RecipientStatus};
use crate::trail::render::fates::{fate, said, stranger, words_by_recipient};
use crate::trail::render::format::{duration_up, rfc3339};
use crate::trail::render::moments::{Moment, fate_us, moments};
use crate::trail::render::picture::{Picture, picture};
use crate::trail::render::terminal::{headline, untold};
use crate::trail::render::trust::WRONG;
use crate::trail::render::verdict::corrected_us;
use crate::trail::render::words::Said;
use crate::trail::render::{View, svg, trust, words};
use crate::trail::{Message, Outcome, Stay};

/// A message; `n` tells its ids from those of others on the page.
pub fn article(n: usize, message: &Message, view: &View) -> Markup {
    let (id, title) = (format!("m{n}"), format!("m{n}-title"));
    html! {
        article id=(id) aria-labelledby=(title) tabindex="-1" {
            h2 id=(title) { (outcome_sign(message.outcome())) (headline(message, view)) }
            (facts(message, view))
            (recipients(message, view))
            @if let Some(picture) = picture(message, view.now_us) { (figure(&id, &picture, message, view)) }
            (spent::table(message, view))
            (hops(message, view))
        }
    }
}

fn facts(message: &Message, view: &View) -> Markup {
    let sent_us = message.sent_or_arrived_us();
    let sent = if message.sent_ms.is_some() {
        "Sent"
    } else {
        "Seen"
    };
    html! {
        dl.facts {
            dt { (sent) }
            dd { time datetime=[rfc3339(sent_us)] { (view.date_time(sent_us)) } }
            @if let Some(id) = &message.message_id {
                dt { "Message" }
                dd.id { (foreign(&format!("<{id}>"))) }
            }
            dt { "Trail id" }
            dd.id { (foreign(message.id.as_str())) }
            @for id in message.other_ids.iter().take(trust::SHOWN) {
                dt { "And id" }
                dd.id { (foreign(id.as_str())) }
            }
            dt { "Proof" }
            dd { (trust::solicited(message)) }
            @for aside in trust::set_aside(message) { dd.failed { (aside) } }
            dt { "Origin" }
            @for line in trust::origins(message) { dd { (line) } }
            dt { "Chain" }
            @for line in trust::agreements(message, view) {
                dd class=[line.starts_with(WRONG).then_some("failed")] { (line) }
            }
        }
    }
}

fn recipients(message: &Message, view: &View) -> Markup {
    let words = words_by_recipient(message);
    html! {
        dl.recipients {
            @for (n, recipient) in message.recipients.iter().enumerate() {
                dt { (foreign(&recipient.address)) }
                dd class=(color(message.outcome_for(recipient))) { (fate(recipient, message, view)) }
                @if let Some(heard) = words.get(&Some(n)) {
                    @for word in &heard.shown { (unproved(&said(word, message, view))) }
                    @if let Some(more) = heard.more() { (unproved(&more)) }
                }
            }
            @if let Some(untold) = untold(message) {
                dd.open { (untold) }
            }
            @if let Some(others) = words.get(&None) {
                @for word in &others.shown {
                    dt { (foreign(&word.address)) (stranger(message)) }
                    (unproved(&said(word, message, view)))
                }
                @if let Some(more) = others.more() { (unproved(&more)) }
            }
        }
    }
}

/// What others say; nothing proves it.
fn unproved(said: &str) -> Markup {
    html! { dd.heard { (said) } }
}

/// The class that gives an answer its colour.
fn color(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "failed",
        Outcome::Open => "open",
        Outcome::Delivered => "delivered",
    }
}

fn figure(id: &str, picture: &Picture, message: &Message, view: &View) -> Markup {
    let from = view.time(picture.from_us, message.sent_or_arrived_us());
    let to = view.time(picture.to_us, message.sent_or_arrived_us());
    let hops = picture.lanes.len();
    let lanes = if hops == 1 {
        "one row, for the one hop".to_owned()
    } else {
        format!("{hops} rows, one for each hop")
    };
    let hollow = if svg::shows_answers(picture) {
        " Where a bar is hollow the hop waited for answers of the next one."
    } else {
        ""
    };
    let description = format!(
        "Time runs from left to right, from {from} to {to}, in {lanes}.{hollow} The table below says the same in words."
    );
    html! {
        figure {
            (svg::draw(picture, &format!("{id}-way"), "The way in time", &description))
            figcaption {
                p { "The axis begins at " (from) ", when " (first(message)) " had the message." }
                (svg::legend(picture))
            }
        }
    }
}

/// Who had the message at the beginning of the axis, and whose clock it is.
fn first(message: &Message) -> Markup {
    let first = message.measure().and_then(|n| message.stays.get(n));
    html! {
        @match first.filter(|stay| stay.hop != 1) {
            None => { "the first hop" }
            Some(stay) => {
                "by its own clock " (foreign(stay.host.as_deref().unwrap_or("(name unknown)")))
                ", the first hop that reported,"
            }
        }
    }
}

/// Every hop, and in it every moment.
fn hops(message: &Message, view: &View) -> Markup {
    html! {
        table.hops {
            caption { "Hop by hop" }
            thead.unseen { tr { th scope="col" { "When" } th scope="col" { "What happened" } } }
            @for (n, stay) in message.stays.iter().enumerate() {
                tbody {
                    tr { th.hop scope="rowgroup" colspan="2" { (hop(n, stay, message, view)) } }
                    @for (_, moment) in moments(message, stay) { (row(n, &moment, message, view)) }
                }
            }
        }
    }
}

fn hop(n: usize, stay: &Stay, message: &Message, view: &View) -> Markup {
    let from = stay.parent.and_then(|n| message.stays.get(n));
    let from = from.and_then(|stay| stay.host.as_deref());
    let margin_us = stay.margin_us().unwrap_or(0);
    let remark = words::remark(message, n);
    let sure = (remark.is_none() && margin_us > 0).then(|| duration_up(margin_us));
    let claims = stay.claims.iter();
    let claims = claims.map(|claim| words::claim(message, stay, claim, view));
    html! {
        span.number { (stay.hop) } " "
        span.name { (foreign(stay.host.as_deref().unwrap_or("(name unknown)"))) }
        @if let Some(from) = from { span.remark { "from " (foreign(from)) } }
        @if let Some(remark) = remark { span.remark { (remark) } }
        @if let Some(margin) = sure { span.remark { "times ± " (margin) } }
        @if let Some(again) = words::again(message, n) { span.remark.open { (again) } }
        @for claim in claims { span.remark { "◌ " (claim) } }
        @if let Some(set) = words::set(stay, view) { span.remark.open { (set) } }
        @if let Some(protection) = words::protection(stay) { span.remark { (protection) } }
    }
}

fn row(n: usize, moment: &Moment, message: &Message, view: &View) -> Markup {
    let plain =
        |at_us, text: String| html! { tr { (when(n, at_us, message, view)) td { (text) } } };
    match moment {
        Moment::Arrival(steps) => {
            let at_us = steps.first().map(|step| step.arrived_us());
            plain(at_us, words::arrival(message, n, steps))
        }
        Moment::Filtered(step) => plain(step.filtered_us, words::filtered(step)),
        Moment::Fate(step, group) => fate_row(n, step, group, message, view),
    }
}

fn fate_row(
    n: usize,
    step: &HopReport,
    group: &[&RecipientStatus],
    message: &Message,
    view: &View,
) -> Markup {
    let first = group.first();
    let (text, over) = words::fate(message, n, step, group, view);
    let class = first.filter(|_| !over).map(|first| first.event.as_str());
    html! {
        tr {
            (when(n, first.map(|first| fate_us(step, first)), message, view))
            td {
                span class=[class] { (text) }
                // Who is meant needs no word where there is but one.
                @if message.recipients.len() > 1 {
                    span.whom {
                        @for (k, recipient) in group.iter().enumerate() {
                            @if k > 0 { ", " } (foreign(&recipient.original))
                        }
                    }
                }
                @match words::said(group) {
                    Some(Said::Server(reply)) => { q { (foreign(reply)) } }
                    Some(Said::Hop(text)) => { span.whom { (foreign(text)) } }
                    None => {}
                }
            }
        }
    }
}

/// The cell of a moment of a stay, on the first hop's clock where that is possible.
fn when(n: usize, us: Option<i64>, message: &Message, view: &View) -> Markup {
    let corrected = us.map(|us| corrected_us(message, n, us));
    html! {
        td.time {
            @if let Some(us) = corrected {
                time datetime=[rfc3339(us)] { (view.time(us, message.sent_or_arrived_us())) }
            }
        }
    }
}
