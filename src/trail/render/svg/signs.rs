//! The signs in a picture, and the legend that says what they mean.

use maud::{Markup, html};

use super::super::picture::{End, Lane, Picture, Placed};
use super::axis::Scale;
use super::{ANSWERS, put_off, shows_answers};

/// A sign by its name, centred at a place.
pub fn sign(name: &str, x: &str, y: usize) -> Markup {
    html! {
        svg class={ "sign " (name) } x=(x) y=(y) width="1" height="1" overflow="visible" aria-hidden="true" {
            @match name {
                "delivered" => { circle r="8" {} path d="M-3.5 .2 L-1 2.8 L3.7 -2.6" {} }
                "open" => { circle r="8" {} path d="M-3.5 0h.01M0 0h.01M3.5 0h.01" {} }
                "failed" => { circle r="8" {} path d="M-3 -3 L3 3 M3 -3 L-3 3" {} }
                "expanded" => { circle r="8" {} path d="M-4 0 H0 M0 0 L3.5 -3.5 M0 0 L3.5 3.5" {} }
                "looped" => { circle r="8" {} path d="M3.4 -2 A4 4 0 1 0 4 .8 M4 -4.4 V-1.6 H1.2" {} }
                "delayed" => { path d="M0 -7 L5 0 L0 7 L-5 0 Z" {} }
                _ => { circle r="5" {} }
            }
        }
    }
}

/// What of the picture needs a word, each with how it looks.
pub fn legend(picture: &Picture) -> Markup {
    let tracks = || {
        picture
            .lanes
            .iter()
            .flat_map(|lane| lane.tracks.iter().map(move |t| (lane, t)))
    };
    let ends = |end| tracks().any(|(_, track)| track.end == end);
    let placed = |how| tracks().any(|(lane, _)| lane.placed == how);
    let scale = Scale::new(picture);
    let unsure = |lane: &Lane| matches!(lane.placed, Placed::Within(us) if scale.shows(us));
    let entries: [(bool, Markup, &str); 14] = [
        (
            true,
            html! { rect.inside x="0" y="4" width="24" height="12" rx="2" {} },
            "inside the hop",
        ),
        (
            placed(Placed::NotBefore),
            html! { rect.inside.unsure x="1" y="4" width="22" height="12" rx="2" {} },
            "the same, clock unknown: not earlier than drawn",
        ),
        (
            placed(Placed::Set),
            html! { rect.inside.unsure x="1" y="4" width="22" height="12" rx="2" {} },
            "the same, clock set meanwhile: not known how long",
        ),
        (
            picture.lanes.iter().any(unsure),
            html! { g.bounds {
                line x1="1" y1="10" x2="23" y2="10" {}
                @for x in [1, 23] { line x1=(x) y1="5" x2=(x) y2="15" {} }
            } },
            "so far all times of the row may be off",
        ),
        (
            shows_answers(picture),
            html! { rect.answers x="1" y="5" width="22" height="10" rx="2" {} },
            ANSWERS,
        ),
        (
            tracks().any(|(_, track)| !track.delays_us.is_empty()),
            html! { line.wait x1="0" y1="10" x2="24" y2="10" {} (sign("delayed", "6", 10)) },
            put_off(tracks().any(|(_, track)| track.refused)),
        ),
        (
            !picture.legs.is_empty(),
            html! { line.leg x1="12" y1="0" x2="12" y2="20" {} },
            "on the wire",
        ),
        (
            ends(End::Silent) || ends(End::SilentOnThis) || ends(End::Stays),
            html! { line.dark x1="0" y1="10" x2="24" y2="10" {} },
            "nothing heard since",
        ),
        (
            placed(Placed::NoReport),
            sign("missing", "12", 10),
            "sent no report",
        ),
        (
            placed(Placed::NotCounted),
            sign("missing", "12", 10),
            "sent no report that counts",
        ),
        (
            ends(End::Delivered),
            sign("delivered", "12", 10),
            "delivered",
        ),
        (ends(End::Failed), sign("failed", "12", 10), "failed"),
        (
            ends(End::Expanded),
            sign("expanded", "12", 10),
            "expanded to others",
        ),
        (
            ends(End::Looped),
            sign("looped", "12", 10),
            "back again, in a ring",
        ),
    ];
    html! {
        ul.legend {
            @for (_, look, words) in entries.iter().filter(|(there, ..)| *there) {
                li { svg.key width="24" height="20" aria-hidden="true" { (look) } (words) }
            }
        }
    }
}
