//! The picture of the way as SVG, for a page that brings the style sheet (`html/page.css`): everything lies at a
//! share of the width, so that bars stretch with the page and letters do not.
//!
//! Colour never says anything alone: inside a hop is a thick bar, hollow where the hop waited for the next server's
//! answers, what that put off a striped line, an end has its sign.

mod axis;
mod signs;

use compact_str::CompactString;
use maud::{Markup, html};

use super::format::{cut, duration};
use super::picture::{End, Lane, Leg, Picture, Placed, Track};
use super::words::{NEVER_CAME, unheard};
use crate::trail::custody::Silence;
use axis::Scale;
pub use signs::{legend, sign};

/// Height of the axis with its words, of a line of words, of a bar, and what is left between lanes, px.
const AXIS: usize = 30;
const WORDS: usize = 20;
const BAR: usize = 14;
const BETWEEN: usize = 16;

/// Characters of a name on a wide page and on a narrow one.
const NAME_WIDE: usize = 64;
const NAME_NARROW: usize = 24;

/// Draws a picture; `id` tells its title and description from those of others on the page.
pub fn draw(picture: &Picture, id: &str, title: &str, description: &str) -> Markup {
    let scale = Scale::new(picture);
    let rows = rows(picture);
    let height = rows.last().map_or(AXIS, |row| row.bar + BAR + BETWEEN);
    let (titled, described) = (format!("{id}-title"), format!("{id}-desc"));
    html! {
        svg.way width="100%" height=(height) role="img" aria-labelledby={ (titled) " " (described) } {
            title id=(titled) { (title) }
            desc id=(described) { (description) }
            (axis::draw(&scale, height))
            @for leg in &picture.legs { (draw_leg(leg, &rows, &scale)) }
            @for row in &rows { (draw_row(row, &scale)) }
        }
    }
}

/// A track on its row, the lane's name above the first.
struct Row<'a> {
    lane: &'a Lane,
    track: &'a Track,
    place: (usize, usize),
    /// Where the lane's name stands, if it stands here.
    head: Option<usize>,
    /// Where the track's own words stand.
    words: usize,
    /// Top of its bar.
    bar: usize,
}

fn rows(picture: &Picture) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut y = AXIS;
    for (n, lane) in picture.lanes.iter().enumerate() {
        // A track alone shares the line of the lane's name.
        let alone = lane.tracks.len() == 1 && lane.left_out == 0;
        for (k, track) in lane.tracks.iter().enumerate() {
            let head = (k == 0).then_some(y + WORDS - 6);
            if k == 0 && !alone {
                y += WORDS;
            }
            let bar = y + WORDS;
            rows.push(Row {
                lane,
                track,
                place: (n, k),
                head,
                words: bar - 6,
                bar,
            });
            y = bar + BAR;
            y += if k + 1 == lane.tracks.len() {
                BETWEEN
            } else {
                2
            };
        }
    }
    rows
}

/// The leg goes from the bottom of one bar to the top of the other.
fn draw_leg(leg: &Leg, rows: &[Row], scale: &Scale) -> Markup {
    let row = |place| rows.iter().find(|row| row.place == place);
    let (Some(from), Some(to)) = (row(leg.from), row(leg.to)) else {
        return html! {};
    };
    html! {
        line.leg x1=(scale.x(leg.from_us)) y1=(from.bar + BAR / 2)
            x2=(scale.x(leg.to_us)) y2=(to.bar + BAR / 2) {}
    }
}

fn draw_row(row: &Row, scale: &Scale) -> Markup {
    let Row { lane, track, .. } = row;
    let alone = row.head.is_some_and(|head| head == row.words);
    html! {
        @if let Some(y) = row.head { (head(lane, y)) }
        @if !alone { (both_widths(&whom(&track.whom, NAME_WIDE), &whom(&track.whom, NAME_NARROW), "0", row.words, "who")) }
        (both_widths(&told(lane, track), &told_short(lane, track), "100%", row.words, "took"))
        (bar(lane, track, row.bar, scale))
        @if let Placed::Within(margin_us) = lane.placed {
            (whisker(track, margin_us, row.bar, scale))
        }
        @for us in scale.apart(&track.delays_us) {
            (sign("delayed", &scale.x(us), row.bar + BAR / 2))
        }
        @if let Some(name) = sign_of(lane, track) {
            (sign(name, &scale.x(track.to_us), row.bar + BAR / 2))
        }
    }
}

/// The lane's number and name, and how many it leaves out.
fn head(lane: &Lane, y: usize) -> Markup {
    let number = lane
        .hop
        .map_or_else(|| "→".to_owned(), |hop| hop.to_string());
    let name = lane.name.as_deref().unwrap_or("(name unknown)");
    let more = match lane.left_out {
        0 => String::new(),
        n => format!(" and {n} more recipients"),
    };
    html! {
        @for (width, name) in [("wide", cut(name, NAME_WIDE)), ("narrow", cut(name, NAME_NARROW))] {
            text class={ "host " (width) } x="0" y=(y) {
                tspan.hop { (number) } " " (name) (more)
            }
        }
    }
}

/// Words on a wide page, and those on a narrow one.
fn both_widths(wide: &str, narrow: &str, x: &str, y: usize, class: &str) -> Markup {
    html! {
        @for (width, words) in [("wide", wide), ("narrow", narrow)] {
            text class={ (class) " " (width) } x=(x) y=(y) { (words) }
        }
    }
}

/// As many names as fit, and how many more there are.
fn whom(names: &[CompactString], chars_max: usize) -> String {
    let first = names.first().map_or("", CompactString::as_str);
    match names {
        [] | [_] => cut(first, chars_max),
        [first, second] if first.chars().count() + second.chars().count() + 2 <= chars_max => {
            format!("{first}, {second}")
        }
        _ => format!(
            "{} +{}",
            cut(first, chars_max.saturating_sub(6)),
            names.len() - 1
        ),
    }
}

/// What became of it here and how long it took, in a few words.
fn told(lane: &Lane, track: &Track) -> String {
    let took = duration(track.lasted_us());
    match (lane.placed, track.end) {
        (_, End::Unheard(silence)) => unheard(silence).to_owned(),
        (Placed::NoReport, _) => match lane.lack {
            None | Some(NEVER_CAME) => "no report came".to_owned(),
            Some(lack) => format!("report {lack}"),
        },
        (_, End::Waits) => "waiting, to be tried again".to_owned(),
        (_, End::Stays) => "nothing since".to_owned(),
        (_, End::Looped) => "back again, in a ring".to_owned(),
        (Placed::Set, _) => {
            let whose = lane.whose.as_deref().unwrap_or("a clock");
            format!("{whose} was set meanwhile")
        }
        (_, End::Left) => took,
        (_, End::Delivered) => format!("delivered after {took}"),
        (_, End::Failed) => format!("failed after {took}"),
        (_, End::Expanded) => format!("expanded to others after {took}"),
    }
}

fn told_short(lane: &Lane, track: &Track) -> String {
    match (lane.placed, track.end) {
        (_, End::Unheard(silence)) => match silence {
            Silence::NotEquipped => "no reports".to_owned(),
            Silence::Awaited | Silence::Silent | Silence::SilentOnThis => "no report".to_owned(),
            Silence::LeftOut => "left out".to_owned(),
            Silence::Unproved | Silence::ToldElsewhere => "not proved".to_owned(),
        },
        (Placed::NoReport, _) => match lane.lack {
            None | Some(NEVER_CAME) => "no report".to_owned(),
            Some(lack) => lack.to_owned(),
        },
        (_, End::Waits) => "waiting".to_owned(),
        (_, End::Stays) => "nothing since".to_owned(),
        (_, End::Looped) => "in a ring".to_owned(),
        (Placed::Set, _) => "clock set".to_owned(),
        _ => duration(track.lasted_us()),
    }
}

/// The time inside the hop, the time the next server made it wait, and what nobody can see.
fn bar(lane: &Lane, track: &Track, y: usize, scale: &Scale) -> Markup {
    let middle = y + BAR / 2;
    let waits_us = track.delays_us.iter().copied().min();
    let inside_us = waits_us.unwrap_or(track.to_us);
    let put_off = put_off(track.refused);
    let waited_us = (track.end != End::Waits).then_some(track.to_us);
    let x = scale.x(track.from_us);
    html! {
        @if lane.placed != Placed::NoReport {
            rect.inside.unsure[matches!(lane.placed, Placed::NotBefore | Placed::Set)] x=(x) y=(y)
                width=(scale.width(track.from_us, inside_us)) height=(BAR) rx="2" {
                @if lane.placed != Placed::Set {
                    title { "inside " (duration(inside_us.saturating_sub(track.from_us))) }
                }
            }
        }
        @if let Some(from_us) = waits_us {
            line.wait x1=(scale.x(from_us)) y1=(middle) x2=(scale.x_or_edge(waited_us)) y2=(middle) {
                title { (put_off) }
            }
        }
        @for (from_us, to_us) in scale.seen(&track.answers_us) {
            rect.answers x=(scale.x(from_us)) y=(y + 1) width=(scale.width(from_us, to_us)) height=(BAR - 2) rx="2" {
                title { (ANSWERS) }
            }
        }
        @if track.end.is_dark() {
            line.dark x1=(scale.x(track.to_us)) y1=(middle) x2=(scale.x_or_edge(None)) y2=(middle) {}
        }
    }
}

/// What a hollow bar is.
const ANSWERS: &str = "waiting for the next server's answers";

/// What a striped line is.
fn put_off(refused: bool) -> &'static str {
    if refused {
        "put off by the next server, or refused and kept, until it was tried again"
    } else {
        "put off by the next server"
    }
}

/// Whether answers are waited for long enough to be seen in a picture.
pub fn shows_answers(picture: &Picture) -> bool {
    let scale = Scale::new(picture);
    let mut tracks = picture.lanes.iter().flat_map(|lane| &lane.tracks);
    tracks.any(|track| !scale.seen(&track.answers_us).is_empty())
}

/// How far all times of the row may be off, where that can be seen.
fn whisker(track: &Track, margin_us: i64, y: usize, scale: &Scale) -> Markup {
    let (low_us, high_us) = (
        track.from_us.saturating_sub(margin_us),
        track.from_us.saturating_add(margin_us),
    );
    if !scale.shows(margin_us) {
        return html! {};
    }
    let (low, high, middle) = (scale.x(low_us), scale.x(high_us), y + BAR / 2);
    html! {
        g.bounds {
            title { "its clock is known to ± " (duration(margin_us)) }
            line x1=(low) y1=(middle) x2=(high) y2=(middle) {}
            @for end in [&low, &high] { line x1=(end) y1=(y + 1) x2=(end) y2=(y + BAR - 1) {} }
        }
    }
}

/// The sign at the end of a track.
fn sign_of(lane: &Lane, track: &Track) -> Option<&'static str> {
    match (lane.placed, track.end) {
        (_, End::Delivered) => Some("delivered"),
        (_, End::Failed) => Some("failed"),
        (_, End::Expanded) => Some("expanded"),
        (_, End::Looped) => Some("looped"),
        (Placed::NoReport, _) => Some("missing"),
        _ => None,
    }
}
