//! A part cut up again: in whatever order and case its fields stand.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::report::field::{Group, canonical};
use crate::report::name::Name;
use crate::report::split::Part;

/// A field as somebody writes it: one of the known, or one that is like them.
fn field() -> impl Strategy<Value = (String, String)> {
    let like = ["Actio", "Statuses", "X-Hoptrail-Steps", "X-Hoptrail"];
    let known = Name::ALL.iter().map(|name| name.as_str());
    let names: Vec<&str> = known.chain(like).collect();
    let name = (proptest::sample::select(names), 0..4u8);
    let name = name.prop_map(|(name, case)| match case {
        0 => name.to_ascii_uppercase(),
        1 => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    });
    (name, "([!-~]([ -~]{0,9}[!-~])?)?")
}

/// The same fields in the order of writing, as the writer puts them.
fn in_order(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let place = |name: &str| {
        let is = |known: &Name| known.as_str() == name;
        Name::ALL.iter().position(is)
    };
    fields.sort_by_key(|(name, _)| place(name));
    fields
}

proptest! {
    #[test]
    fn each_value_is_found_under_its_name_and_covered_by_auth(
        groups in vec((vec(field(), 1..40), any::<bool>()), 1..4)
    ) {
        let ordered = |(fields, sort)| if sort { in_order(fields) } else { fields };
        let groups: Vec<_> = groups.into_iter().map(ordered).collect();
        let blank = |value: &str| if value.len() % 4 == 3 { "" } else { " " };
        let line = |(name, value): &(String, String)| format!("{name}:{}{value}\r\n", blank(value));
        let block = |fields: &Vec<_>| fields.iter().map(line).collect::<String>();
        let text = groups.iter().map(block).collect::<Vec<_>>().join("\r\n");
        let part = Part::cut(text.as_bytes()).unwrap();
        prop_assert_eq!(part.groups().count(), groups.len());
        for (cut, fields) in part.groups().zip(&groups) {
            for name in Name::ALL.iter().filter(|name| **name != Name::Auth) {
                let is = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name.as_str());
                let first = fields.iter().find(is).map(|(_, value)| value.as_str());
                prop_assert_eq!(cut.get(*name), first, "{}", name.as_str());
            }
        }
        let is_auth = |field: &&(String, String)| field.0.eq_ignore_ascii_case("X-Hoptrail-Auth");
        let auth = groups[0].iter().find(is_auth).map(|(_, value)| value.as_bytes());
        prop_assert_eq!(part.auth(), auth);
        let field = |(name, value): &(String, String)| (name.clone().into(), value.clone().into());
        let written = |fields: &Vec<_>| Group(fields.iter().map(field).collect());
        let written: Vec<Group> = groups.iter().map(written).collect();
        prop_assert_eq!(part.into_canonical().into_bytes(), canonical(&written));
    }
}
