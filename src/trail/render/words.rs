//! What is told of a stay, in words: for the tree on a terminal and the table on a page alike. Times of later hops
//! are told on the first hop's clock where the offset is known.

use super::View;
use super::format::{bounded, clock, duration, nearest, plain, put, unsure};
use super::moments::{fate_us, over_us};
use super::verdict::{NOT_ASKED, corrected_us};
use crate::report::Trace;
use crate::track::{Event, HopReport, RecipientStatus, Security, own};
use crate::trail::clock::{Bounds, Offset};
use crate::trail::custody::Silence;
use crate::trail::message::Jump;
use crate::trail::refusal::TriedAgain;
use crate::trail::ring::ring;
use crate::trail::spent::is_greylisting;
use crate::trail::{Message, Stay};

/// A pause between a message and the answer to it that is worth telling, µs.
const PAUSE_TOLD_US: i64 = 1_000_000;

/// A time of a stay, on the first hop's clock where that is possible.
pub fn time(message: &Message, stay: usize, us: i64, view: &View) -> String {
    let from_us = message.sent_or_arrived_us();
    view.time(corrected_us(message, stay, us), from_us)
}

/// That the message was here before, and the ring in which it came back, where its hop does not tell that itself.
pub fn again(message: &Message, n: usize) -> Option<String> {
    let stay = message.stays.get(n)?;
    let tells = |step: &HopReport| !ring(message, n, step).is_empty();
    if stay.steps.iter().any(tells) {
        return None;
    }
    let visits = message.earlier_visits(n);
    let last = visits.last()?;
    let before = |n: &usize| message.stays.get(*n).and_then(|s| s.parent);
    let ring = std::iter::successors(Some(n), before).take_while(|n| n != last);
    let mut ring: Vec<usize> = ring.chain([*last]).collect();
    ring.reverse();
    let stays = ring.iter().filter_map(|n| message.stays.get(*n));
    let names = stays.map(|s| plain(s.host.as_deref().unwrap_or("?")));
    let ring = names.collect::<Vec<_>>().join(" → ");
    let times = visits.len() + 1;
    Some(format!("↺ here again, time {times}: {ring}"))
}

/// What a Received field claims of a stay, in whole seconds.
pub fn claim(message: &Message, stay: &Stay, claim: &Trace, view: &View) -> String {
    let from_us = message.sent_or_arrived_us();
    let by = plain(&claim.by);
    let at = claim.at_us.map_or_else(String::new, |us| {
        let time = view.second(us, from_us);
        format!("{time} by its own clock, ")
    });
    if stay.is_missing() {
        format!("{at}claims the Received field of {by} (unproved)")
    } else {
        format!("by way of {by}: {at}claims its Received field (unproved)")
    }
}

/// One arrival, as the steps that go back to it tell of it.
pub fn arrival(message: &Message, n: usize, steps: &[&HopReport]) -> String {
    let mut text = String::from("arrived");
    if let Some(transit) = steps.iter().find_map(|s| message.transit(n, s)) {
        put(
            &mut text,
            format_args!(", {} on the wire", bounded(transit)),
        );
    }
    if let Some(queue_id) = steps.iter().find_map(|s| s.queue_id.as_ref()) {
        put(&mut text, format_args!(", queue id {}", plain(queue_id)));
    }
    if let Some(size) = steps.iter().find_map(|s| s.size) {
        put(&mut text, format_args!(", {size} octets"));
    }
    if let Some(pause) = steps.iter().find_map(|s| told_pause(s.pause_in_us())) {
        put(&mut text, format_args!(", accepted {pause} later"));
    }
    text
}

/// The hop's content filter gave the message back.
pub fn filtered(step: &HopReport) -> String {
    let mut text = String::from("back from the content filter");
    if let Some(after) = step.filter_us() {
        put(&mut text, format_args!(" after {}", duration(after)));
    }
    text
}

/// What a step did with recipients who fared alike, and whether more happened: a wait that it tells of is over, or it was
/// refused and tried again.
pub fn fate(
    message: &Message,
    n: usize,
    step: &HopReport,
    group: &[&RecipientStatus],
    view: &View,
) -> (String, bool) {
    let Some(first) = group.first() else {
        return (String::new(), false);
    };
    let tried_again = TriedAgain::after(step, message).has(first);
    let mut text = sentence(first, tried_again);
    let stay = message.stays.get(n);
    let sure = stay.is_some_and(|stay| stay.jump.is_none());
    let over_us = stay.and_then(|stay| over_us(stay, group, fate_us(step, first)));
    if let Some(over_us) = over_us {
        let until = time(message, n, over_us, view);
        put(&mut text, format_args!(" until {until}"));
    } else if first.event == Event::Looped {
        let ring = ring(message, n, step);
        if !ring.is_empty() {
            let names = plain(&ring.join(" → "));
            put(&mut text, format_args!(", in a ring: {names}"));
        }
    } else if let Some(dwell) = step.dwell_us(first).filter(|_| sure) {
        put(&mut text, format_args!(" after {}", duration(dwell)));
        let arrived_us = step.arrived_us();
        let awaited_us = step.awaited_us(arrived_us, arrived_us.saturating_add(dwell));
        if let Some(awaited) = told_pause(Some(awaited_us)) {
            put(
                &mut text,
                format_args!(", {awaited} of that waiting for answers"),
            );
        }
    }
    if tried_again {
        text.push_str(", and tried again");
    }
    if first.event == Event::Expanded {
        text.push_str(", where the trail ends");
    }
    if let Some(pause) = told_pause(step.pause_out_us()).filter(|_| leaves(first.event)) {
        put(&mut text, format_args!(", which took it {pause} later"));
    }
    (text, over_us.is_some() || tried_again)
}

/// What was said to it, and by whom.
pub enum Said<'a> {
    /// The next hop, in these words.
    Server(&'a str),
    /// The hop itself: there was nobody to say anything.
    Hop(&'a str),
}

/// The words of whoever settled what became of these recipients.
pub fn said<'a>(group: &[&'a RecipientStatus]) -> Option<Said<'a>> {
    let reply = group.first()?.reply.as_deref()?;
    Some(own::words(reply).map_or(Said::Server(reply), Said::Hop))
}

/// What is said of a hop that has the message and of which nothing that counts came.
pub fn unheard(silence: Silence) -> &'static str {
    match silence {
        Silence::NotEquipped => NOT_ASKED,
        Silence::Awaited | Silence::Silent => "no report yet",
        Silence::SilentOnThis => "no report on this recipient",
        Silence::LeftOut => "report left out",
        Silence::Unproved | Silence::ToldElsewhere => "report not proved",
    }
}

/// What is said of a report where nothing is known of any.
pub const NEVER_CAME: &str = "never came";

/// Why there is no report of a hop of this name, if it has one, which another hop refers to.
pub fn lack(message: &Message, host: Option<&str>) -> &'static str {
    match host {
        Some(_) if message.leaves_out(host) => "was left out",
        Some(_) if message.has_unproved(host) => "is not proved",
        None if message.leaves_out(None) || message.has_unproved(None) => {
            "never came, or was left out"
        }
        _ => NEVER_CAME,
    }
}

/// What to know of a hop's clock before reading its times.
pub fn remark(message: &Message, n: usize) -> Option<String> {
    let stay = message.stays.get(n)?;
    if stay.is_missing() {
        let first = match lack(message, stay.host.as_deref()) {
            NEVER_CAME => "no report came from here".to_owned(),
            lack => format!("the report from here {lack}"),
        };
        return Some(first + ", but a later hop had it from here");
    }
    let remarks = [compared(message, n, stay), too_early(message, n, stay)];
    let remarks: Vec<String> = remarks.into_iter().flatten().collect();
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// Whose clock its times are of, and how that compares with the others.
fn compared(message: &Message, n: usize, stay: &Stay) -> Option<String> {
    if message.measure() == Some(n) {
        let told = "no hop before it reported: the times are of its own clock";
        return (stay.hop != 1).then(|| told.to_owned());
    }
    Some(match (stay.offset, stay.link) {
        (Offset::Known(offset), _) => format!("clock {}, corrected{}", clock(offset), later(stay)),
        (_, Offset::Known(link)) => {
            format!(
                "times of its own clock, which against that of the hop above is {}",
                clock(link)
            )
        }
        (_, Offset::Contradiction) => format!(
            "no clock offset fits its stamps: {}; not comparable with the times above",
            was_set(message, stay)
        ),
        (_, Offset::Unknown) => {
            "times of its own clock, not comparable with those above".to_owned()
        }
    })
}

/// That by its clock a message came before it was sent, where nothing but that clock says when it came.
fn too_early(message: &Message, n: usize, stay: &Stay) -> Option<String> {
    const TOLD_FROM_US: i64 = 1_000_000;
    let is_bound = message.measure() != Some(n) && stay.offset.bounds().is_some();
    let early_us = message.came_after_us(n)?.checked_neg()?;
    let told = !is_bound && early_us >= TOLD_FROM_US;
    told.then(|| {
        format!(
            "its clock is at least {} behind that of the sender",
            duration(early_us)
        )
    })
}

/// Whose clock was set, as far as that is known.
pub fn whose(jump: &Jump) -> String {
    if jump.is_own {
        "its clock".to_owned()
    } else {
        format!("its clock or that of {}", plain(&jump.against))
    }
}

/// That a clock was set while the message was here or came here, and whose.
pub fn was_set(message: &Message, stay: &Stay) -> String {
    let before = stay.parent.and_then(|n| message.stays.get(n));
    let before = before.and_then(|stay| stay.host.as_deref());
    let whose = match (&stay.jump, before) {
        (Some(jump), _) => whose(jump),
        (None, Some(host)) => format!("its clock or that of {}", plain(host)),
        (None, None) => "a clock".to_owned(),
    };
    format!("{whose} was set meanwhile, or a stamp is made up")
}

/// How unsure its last times are, where the message stayed so long that the clocks may have run apart.
fn later(stay: &Stay) -> String {
    const TOLD_FROM_US: i64 = 50_000;
    let last = stay.lasted().and_then(|(_, us)| stay.on_first_clock(us));
    let margin = last.map(Bounds::margin_us).filter(|us| *us >= TOLD_FROM_US);
    margin.map_or_else(String::new, |us| format!(" to{} in the end", unsure(us)))
}

/// That a clock was set while the message was here, by how much, and between which handovers.
pub fn set(stay: &Stay, view: &View) -> Option<String> {
    let jump = stay.jump.as_ref()?;
    let middle_us = jump.set.middle_us();
    let by = nearest(i64::try_from(middle_us.unsigned_abs()).unwrap_or(i64::MAX));
    let way = match (jump.is_own, middle_us < 0) {
        (false, _) => "",
        (true, true) => "back ",
        (true, false) => "forward ",
    };
    let (from_us, to_us) = jump.seen_us;
    Some(format!(
        "{} was set {way}by {by}{}, or a stamp is made up, between {} by the clock of {}; how long it was here is not \
         known, and the times after it came are of its own clock",
        whose(jump),
        unsure(jump.set.margin_us()),
        view.span(from_us, to_us),
        plain(&jump.against)
    ))
}

/// What protected the connections of a stay, as far as it is known.
pub fn protection(stay: &Stay) -> Option<String> {
    let came = stay.steps.iter().find_map(|step| step.tls_in.as_ref());
    let mut ways: Vec<String> = came
        .iter()
        .map(|way| format!("in: {}", name(way)))
        .collect();
    for way in stay.steps.iter().filter_map(|step| step.tls_out.as_ref()) {
        let verified = match way {
            Security::Tls { verified: true, .. } => ", verified",
            Security::Tls { .. } => ", not verified",
            Security::Plain => "",
        };
        let way = format!("out: {}{verified}", name(way));
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    (!ways.is_empty()).then(|| ways.join("; "))
}

fn name(security: &Security) -> String {
    match security {
        Security::Plain => "plaintext".to_owned(),
        Security::Tls { version, .. } => format!("TLS {}", plain(version)),
    }
}

/// How long a server thought about a message, if that is worth a word.
fn told_pause(pause_us: Option<i64>) -> Option<String> {
    pause_us.filter(|us| *us >= PAUSE_TOLD_US).map(duration)
}

/// Whether the next hop was given the message.
fn leaves(event: Event) -> bool {
    matches!(event, Event::Transferred | Event::Relayed)
}

fn sentence(recipient: &RecipientStatus, tried_again: bool) -> String {
    let next = recipient
        .remote_mta
        .as_deref()
        .map_or_else(|| "the next hop".to_owned(), plain);
    match recipient.event {
        Event::Accepted => "accepted".to_owned(),
        Event::Transferred => format!("transferred to {next}"),
        Event::Relayed => format!("relayed to {next} ({NOT_ASKED})"),
        Event::Expanded => "expanded to addresses not shown".to_owned(),
        Event::Delayed if is_greylisting(recipient) => format!("greylisted by {next}"),
        Event::Delayed => format!("delayed by {next}"),
        Event::Looped => "back again".to_owned(),
        Event::Held => "held, not seen leaving".to_owned(),
        Event::Failed if tried_again => format!("refused by {next}"),
        Event::Failed => format!("failed: refused by {next}"),
        Event::Delivered => "delivered".to_owned(),
    }
}
