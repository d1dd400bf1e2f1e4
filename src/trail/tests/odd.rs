//! What one hop alone tells, and clocks that no hop compares with others: the sender's, and that of the reader.

use super::shown::shown;
use super::world::{HOP1, HOP2, Leg, SENT_MS, START_US, read, three_hops, view};
use crate::track::{Event, HopReport};
use crate::trail::Trails;
use crate::trail::odd::{Than, odd_clocks};
use crate::trail::render::json;

const BOB: &str = "bob@example.net";
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 1440 * MINUTE_US;

/// A way of two hops, by clocks that are so far ahead, µs.
fn two_hops(ahead_us: [i64; 2]) -> Vec<HopReport> {
    let hop = |leg: Leg, ahead_us| Leg {
        clock_us: leg.clock_us + ahead_us,
        ..leg
    };
    let [first, second] = ahead_us;
    let transferred = [(BOB, Event::Transferred)];
    vec![
        hop(HOP1, first).report(1, None, &transferred),
        hop(HOP2, second).report(2, Some(1), &[(BOB, Event::Delivered)]),
    ]
}

/// A message of which nobody compares the clock of the one hop that tells.
pub fn a_day_ahead() -> Trails {
    let mut reports = two_hops([DAY_US, DAY_US]);
    reports.truncate(1);
    read(&reports)
}

fn odd(reports: &[HopReport]) -> Vec<(String, Than, i64)> {
    let trails = read(reports);
    let odd = odd_clocks(&trails.messages[0], view().now_us).into_iter();
    odd.map(|odd| (odd.host.to_owned(), odd.of, odd.ahead_us / MINUTE_US))
        .collect()
}

#[test]
fn a_hop_that_alone_tells_agrees_with_nobody() {
    let all = three_hops(&[BOB]);
    let chain = |reports: &[HopReport]| {
        let shown = shown(&read(reports));
        let line = shown.lines().find(|line| line.starts_with("  chain"));
        line.unwrap().to_owned()
    };
    assert!(chain(&all[..1]).contains("? one hop alone reports on it"));
    assert!(chain(&all[..2]).contains("✓ the hops agree"));
}

#[test]
fn a_time_that_is_still_to_come_is_named() {
    let trails = a_day_ahead();
    insta::assert_snapshot!(shown(&trails));
    let json = json::document(&trails, view().now_us);
    for part in ["\"of\": \"reader\"", "\"ahead_us\": 8580"] {
        assert!(json.contains(part), "{part} in {json}");
    }
    let host = |host: &str, of, minutes| [(host.to_owned(), of, minutes)];
    // Whose clock is known against the first hop's is corrected.
    assert_eq!(odd(&two_hops([0, DAY_US])), []);
    let both = host(HOP1.host, Than::Reader, 1430);
    assert_eq!(odd(&two_hops([DAY_US, DAY_US])), both);
    assert_eq!(odd(&two_hops([DAY_US, 0])), both);
    // Nobody can compare it.
    let mut apart = two_hops([0, DAY_US]);
    apart[1].times_in.clear();
    assert_eq!(odd(&apart), host(HOP2.host, Than::Reader, 1430));
    // So far clocks differ, and mail takes its time.
    let now_us = view().now_us - START_US;
    assert_eq!(odd(&two_hops([now_us + 2 * MINUTE_US, 0])), []);
}

#[test]
fn what_came_before_it_was_sent_is_named() {
    let behind = two_hops([-DAY_US, -DAY_US]);
    let host = HOP1.host.to_owned();
    assert_eq!(odd(&behind), [(host, Than::Sender, -1439)]);
    let text = shown(&read(&behind));
    assert!(
        text.contains("? mx1.example.org: its clock is behind the sender's by"),
        "{text}"
    );
    let near = two_hops([-900_000, 0]);
    assert_eq!(near[0].sent_ms, Some(SENT_MS));
    assert_eq!(odd(&near), []);
}
