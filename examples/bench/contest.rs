//! Interleaved rounds: every contestant in turn, in an order that rotates, each with as many messages as
//! it manages in about the time of a round.

use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::process::TICKS_PER_S;

/// Longest a run may take before it is given up.
pub const RUN_LIMIT: Duration = Duration::from_mins(1);

/// One contestant: how to run so many messages through it, and what CPU it has taken so far.
pub struct Contestant<'a> {
    /// Runs so many messages and tells how long that took.
    pub run: Box<dyn FnMut(u32) -> Result<Duration> + 'a>,
    /// The CPU time of the process that counts, ticks.
    pub cpu_ticks: Box<dyn Fn() -> Result<u32> + 'a>,
}

/// How one contestant did.
#[derive(Clone, Default)]
pub struct Score {
    /// Messages a second, by round.
    pub rates: Vec<f64>,
    messages: u32,
    cpu_ticks: u32,
}

impl Score {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        median(self.rates.iter().copied())
    }

    /// CPU time of a message, µs.
    pub fn cpu_us(&self) -> f64 {
        f64::from(self.cpu_ticks) / f64::from(TICKS_PER_S) * 1e6 / f64::from(self.messages)
    }

    /// Messages in all rounds.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Its rate as a multiple of another's, round by round.
    pub fn against(&self, other: &Self) -> f64 {
        median(self.rates.iter().zip(&other.rates).map(|(a, b)| a / b))
    }
}

/// Runs the rounds, behind a first run that only tells how many messages make a round. A load of fewer
/// messages than `messages_min` would leave sessions idle.
pub fn contest<const N: usize>(
    bench: &Bench,
    messages_min: u32,
    contestants: [Contestant<'_>; N],
) -> Result<[Score; N]> {
    contest_all(bench, messages_min, contestants.into())
        .map(|scores| std::array::from_fn(|n| scores[n].clone()))
}

/// [`contest`] for a number that is not known beforehand.
pub fn contest_all(
    bench: &Bench,
    messages_min: u32,
    mut contestants: Vec<Contestant<'_>>,
) -> Result<Vec<Score>> {
    let mut counts = Vec::new();
    for contestant in &mut contestants {
        let pilot = messages_min * 5;
        let took = (contestant.run)(pilot)?;
        counts.push(count_for(
            bench,
            f64::from(pilot) / took.as_secs_f64(),
            messages_min,
        ));
    }
    let mut scores = vec![Score::default(); contestants.len()];
    for round in 0..bench.rounds {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            let (contestant, score) = (&mut contestants[at], &mut scores[at]);
            let cpu_ticks = (contestant.cpu_ticks)()?;
            let took = (contestant.run)(counts[at])?;
            let rate = f64::from(counts[at]) / took.as_secs_f64();
            score.rates.push(rate);
            score.messages += counts[at];
            score.cpu_ticks += (contestant.cpu_ticks)()? - cpu_ticks;
            counts[at] = count_for(bench, rate, messages_min);
        }
    }
    Ok(scores)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn count_for(bench: &Bench, rate: f64, messages_min: u32) -> u32 {
    ((rate * bench.round.as_secs_f64()) as u32).clamp(messages_min, 1_000_000)
}

/// The middle value.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
