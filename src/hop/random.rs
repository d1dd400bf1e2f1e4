//! Randomness from the system, for many ids at a time: a call to it for each would be two for every tracked message.
//! Nothing that was given out stays in memory here.

use std::cell::RefCell;

/// Octets fetched at a time.
const OCTETS: usize = 512;

/// What a thread has left.
struct Stock {
    octets: [u8; OCTETS],
    left: usize,
}

thread_local! {
    static STOCK: RefCell<Stock> = const {
        RefCell::new(Stock { octets: [0; OCTETS], left: 0 })
    };
}

/// So many random octets; `None` if the system has none to give.
pub fn octets<const N: usize>() -> Option<[u8; N]> {
    STOCK.with_borrow_mut(Stock::take)
}

/// A random number.
pub fn number() -> Option<u64> {
    octets().map(u64::from_ne_bytes)
}

impl Stock {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.left < N {
            getrandom::fill(&mut self.octets).ok()?;
            self.left = OCTETS;
        }
        let given = self.octets[..self.left].last_chunk_mut()?;
        self.left -= N;
        Some(std::mem::replace(given, [0; N]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_octet_is_given_out_twice_and_none_is_kept() {
        let numbers: HashSet<u64> = (0..1000).map_while(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
        let pairs: HashSet<[u8; 16]> = (0..1000).map_while(|_| octets()).collect();
        assert_eq!(pairs.len(), 1000);
        STOCK.with_borrow(|stock| {
            assert!(stock.octets[stock.left..].iter().all(|octet| *octet == 0));
            assert!(stock.left < OCTETS);
        });
    }
}
