//! The result as people read it: a line for each measure, shown as soon as it is known.

/// Where the lines go.
pub struct Table {
    lines: usize,
}

impl Table {
    /// Prints the head.
    pub fn start() -> Self {
        let table = Self { lines: 0 };
        print("measure", "goal", "result", "in figures");
        table
    }

    /// One measure.
    pub fn line(&mut self, measure: &str, goal: &str, result: &str, figures: &str) {
        self.lines += 1;
        print(measure, goal, result, figures);
    }

    /// Says so if no scenario was wanted.
    pub fn finish(self) {
        if self.lines == 0 {
            eprintln!("no scenario of that name");
        }
    }
}

#[allow(clippy::print_stdout)]
fn print(measure: &str, goal: &str, result: &str, figures: &str) {
    println!("{measure:<43} {goal:<8} {result:>7}   {figures}");
}
