//! Figures over many messages as text. Pure, as all of `render`.

pub mod rows;
pub mod terminal;
