//! One message on the page: the verdict, what is known of it, the picture, and a table that says the same.

use maud::{Markup, html};

use super::{foreign, outcome_sign};
use crate::track::{HopReport, RecipientStatus};
use crate::trail::clock::Offset;
use crate::trail::render::View;
use crate::trail::render::format::{duration_up, rfc3339};
use crate::trail::render::picture::{Picture, picture};
use crate::trail::render::terminal::{fate, headline, proof, without_proof};
use crate::trail::render::tree::{Moment, fate_us, moments, protection, remark};
use crate::trail::render::verdict::corrected_us;
use crate::trail::render::{svg, tree};
use crate::trail::{Message, Outcome, Stay};

/// A message; `n` tells its ids from those of others on the page.
pub fn article(n: usize, message: &Message, view: &View) -> Markup {
    let (id, title) = (format!("m{n}"), format!("m{n}-title"));
    html! {
        article id=(id) aria-labelledby=(title) tabindex="-1" {
            h2 id=(title) { (outcome_sign(message.outcome())) (headline(message, view)) }
            (facts(message, view))
            (recipients(message, view))
            @if let Some(picture) = picture(message) { (figure(&id, &picture, message, view)) }
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
            dt { "Proof" }
            dd { (proof(message.truth)) }
            @if let Some(without) = without_proof(message) {
                dd.failed { (without) }
            }
        }
    }
}

fn recipients(message: &Message, view: &View) -> Markup {
    html! {
        dl.recipients {
            @for recipient in &message.recipients {
                dt { (foreign(&recipient.address)) }
                dd class=(color(message.outcome_for(recipient))) { (fate(recipient, message, view)) }
            }
        }
    }
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
    let description = format!(
        "Time runs from left to right, from {from} to {to}, in {lanes}. The table below says the same in words."
    );
    html! {
        figure {
            (svg::draw(picture, &format!("{id}-way"), "The way in time", &description))
            figcaption {
                p { "The axis begins at " (from) ", when the first hop had the message." }
                (svg::legend(picture))
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
                    tr { th.hop scope="rowgroup" colspan="2" { (hop(stay, message)) } }
                    @for (_, moment) in moments(stay) { (row(n, &moment, message, view)) }
                }
            }
        }
    }
}

fn hop(stay: &Stay, message: &Message) -> Markup {
    let from = stay.parent.and_then(|n| message.stays.get(n));
    let from = from.and_then(|stay| stay.host.as_deref());
    let margin_us = match stay.offset {
        Offset::Known(bounds) => bounds.margin_us(),
        _ => 0,
    };
    html! {
        span.number { (stay.hop) } " "
        span.name { (foreign(stay.host.as_deref().unwrap_or("(name unknown)"))) }
        @if let Some(from) = from { span.remark { "from " (foreign(from)) } }
        @if let Some(remark) = remark(stay) { span.remark { (remark) } }
        @else if margin_us > 0 { span.remark { "times ± " (duration_up(margin_us)) } }
        @if let Some(protection) = protection(stay) { span.remark { (protection) } }
    }
}

fn row(n: usize, moment: &Moment, message: &Message, view: &View) -> Markup {
    match moment {
        Moment::Arrival(steps) => {
            let at_us = steps.first().map(|step| step.arrived_us());
            let text = tree::arrival(message, n, steps);
            html! { tr { (when(n, at_us, message, view)) td { (text) } } }
        }
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
    let (text, over) = tree::fate(message, n, step, group, view);
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
                @if let Some(reply) = first.and_then(|first| first.reply.as_deref()) { q { (foreign(reply)) } }
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
