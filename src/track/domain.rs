//! Which domain stands above which: who may speak for whom, without a list of organisational domains.

/// Whether `domain` is `above` or below it; a domain without a dot stands above everybody's, and so above
/// nobody here.
pub fn is_within(domain: &str, above: &str) -> bool {
    let split = domain.len().checked_sub(above.len());
    let Some((below, same)) = split.and_then(|at| domain.split_at_checked(at)) else {
        return false;
    };
    above.contains('.')
        && same.eq_ignore_ascii_case(above)
        && (below.is_empty() || below.ends_with('.'))
}
