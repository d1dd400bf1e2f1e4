//! The `request_header` and `track` keys of a listener: how people ask whose client does not speak TRACK.

use toml::Spanned;

use super::Wrong;
use crate::track::Role;
use crate::track::wish::{Rule, Wishes};

/// Checks what a listener of this role takes for a request besides TRACK.
pub fn check(
    role: Role,
    header: Option<Spanned<String>>,
    rules: Option<Spanned<Vec<Rule>>>,
) -> Result<Wishes, Wrong> {
    let header_span = header.as_ref().map(|h| ("request_header", h.span()));
    let rules_span = rules.as_ref().map(|r| ("track", r.span()));
    if let (Some((key, span)), true) = (header_span.or(rules_span), role != Role::Ingress) {
        return Err((span.start, format!("{key}: concerns an ingress only")));
    }
    Ok(Wishes {
        header: header.map(field_name).transpose()?,
        rules: rules.map(Spanned::into_inner).unwrap_or_default(),
    })
}

/// A field name that no standard gives a meaning, since the field is taken out.
fn field_name(name: Spanned<String>) -> Result<String, Wrong> {
    let start = name.span().start;
    let name = name.into_inner();
    let own = name.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("X-"));
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if own && plain && (3..=70).contains(&name.len()) {
        Ok(name)
    } else {
        Err((
            start,
            format!(
                "request_header: {name:?} is no field name of your own: X- and letters, digits or -"
            ),
        ))
    }
}
