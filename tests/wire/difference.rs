//! Two texts, line by line: what is gone, what is new, and a few lines around either.

/// How many lines around a difference are shown.
const AROUND: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The lines that differ, each behind `-` or `+`, with those around them.
pub fn between(old: &str, new: &str) -> String {
    let lines = aligned(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let differs = |place: usize| !matches!(lines[place], Line::Same(_));
    let (mut text, mut last) = (String::new(), None);
    for (place, line) in lines.iter().enumerate() {
        let (from, to) = (place.saturating_sub(AROUND), (place + AROUND + 1).min(lines.len()));
        if !(from..to).any(differs) {
            continue;
        }
        if last.is_some_and(|last| last + 1 < place) {
            text.push_str("  …\n");
        }
        last = Some(place);
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

/// Both texts as one, with as many lines in common as can be.
fn aligned<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    // common[i][j]: how many lines old[i..] and new[j..] have in common.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

#[test]
fn a_changed_line_is_shown_with_what_is_around_it() {
    let old: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let mut new = old.clone();
    new[15] = "other".to_owned();
    let shown = between(&old.join("\n"), &new.join("\n"));
    assert_eq!(shown, "  11\n  12\n  13\n  14\n- 15\n+ other\n  16\n  17\n  18\n  19\n");
    assert_eq!(between("a\nb", "a\nb"), "");
}
