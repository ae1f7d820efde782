//! Splits a template into the text between tags and the tokens of each tag, by the rules of
//! Jinja2's lexer; bracketed groups become nested nodes.

use std::str::Chars;

/// The maximum nesting of brackets in a tag.
const DEEPEST_GROUPS: usize = 32;
/// The maximum number of tokens in a row: an expression of many operators is as deep as it is long.
const LONGEST_CHAIN: usize = 1000;

/// A part of a template.
pub(super) enum Piece<'a> {
    /// Text, comments and raw blocks, unchanged.
    Verbatim(&'a str),
    /// `{{ … }}` or `{% … %}`.
    Tag(Tag<'a>),
}

/// A tag.
pub(super) struct Tag<'a> {
    /// `{{` or `{%`, with the sign that controls white space.
    pub open: &'a str,
    pub nodes: Vec<Node<'a>>,
    /// `}}` or `%}`, with its sign.
    pub close: &'a str,
    /// The number of line ends inside.
    pub lines: usize,
}

/// A token, or a bracketed group.
pub(super) enum Node<'a> {
    Word(&'a str),
    Sign(&'a str),
    /// A string or a number, in a form that minijinja reads the same way.
    Literal(String),
    Group(char, Vec<Node<'a>>, char),
}

impl Tag<'_> {
    /// The first word.
    pub fn keyword(&self) -> &str {
        self.nodes.first().and_then(Node::name).unwrap_or("")
    }
}

impl<'a> Node<'a> {
    /// Whether it is this word or operator.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Self::Word(found) | Self::Sign(found) if *found == text)
    }

    pub fn name(&self) -> Option<&'a str> {
        match self {
            Self::Word(name) => Some(name),
            _ => None,
        }
    }

    /// The operator, if it is one of these.
    pub fn operator(&self, among: &[&str]) -> Option<&'a str> {
        match self {
            Self::Sign(sign) if among.contains(sign) => Some(sign),
            _ => None,
        }
    }

    /// Whether an operand follows it.
    pub fn is_operator(&self) -> bool {
        self.operator(&["+", "-", "*", "/", "//", "%", "**", "~"])
            .is_some()
    }

    /// Its source; `grouped` formats a group.
    pub fn text(
        &self,
        grouped: impl Fn(char, &[Node<'_>], char) -> Result<String, String>,
    ) -> Result<String, String> {
        match self {
            Self::Word(text) | Self::Sign(text) => Ok((*text).to_string()),
            Self::Literal(text) => Ok(text.clone()),
            Self::Group(open, nodes, close) => grouped(*open, nodes, *close),
        }
    }
}

/// Splits a template into pieces.
///
/// # Errors
/// A message if a tag is not closed, brackets do not match, or an expression is too deep.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = source;
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        pieces.push(Piece::Verbatim(before));
        rest = if let Some(inside) = tag.strip_prefix("{#") {
            let end = inside.find("#}").ok_or("a comment does not end")?;
            let (comment, rest) = tag.split_at(end + 4);
            pieces.push(Piece::Verbatim(comment));
            rest
        } else {
            let (read, rest) = read_tag(tag)?;
            if read.open.starts_with("{%") && read.keyword() == "raw" {
                let (raw, rest) = tag.split_at(end_of_raw(tag)?);
                pieces.push(Piece::Verbatim(raw));
                rest
            } else {
                pieces.push(Piece::Tag(read));
                rest
            }
        };
    }
    pieces.push(Piece::Verbatim(rest));
    Ok(pieces)
}

fn next_tag(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find('{').map(|at| from + at) {
        if text[at + 1..].starts_with(['{', '%', '#']) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The end of `{% endraw %}` in a text that starts with `{% raw %}`.
fn end_of_raw(text: &str) -> Result<usize, String> {
    let mut from = 2;
    while let Some(at) = text[from..].find("{%").map(|at| from + at) {
        let inside = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(after) = inside.strip_prefix("endraw") {
            let after = after.trim_start();
            let close = ["-%}", "+%}", "%}"]
                .iter()
                .find(|close| after.starts_with(**close));
            if let Some(close) = close {
                return Ok(text.len() - after.len() + close.len());
            }
        }
        from = at + 2;
    }
    Err("a raw block does not end".into())
}

/// One tag, and the text after it.
fn read_tag(text: &str) -> Result<(Tag<'_>, &str), String> {
    let signed = text[2..].starts_with(['-', '+']);
    let (open, mut rest) = text.split_at(if signed { 3 } else { 2 });
    let ends: &[&str] = if open.starts_with("{{") {
        &["-}}", "}}"]
    } else {
        &["-%}", "+%}", "%}"]
    };
    let mut groups = Groups::default();
    loop {
        rest = rest.trim_start();
        let is_end = |end: &&&str| groups.open.is_empty() && rest.starts_with(**end);
        if let Some(end) = ends.iter().find(is_end) {
            let (close, after) = rest.split_at(end.len());
            let tag = Tag {
                open,
                nodes: groups.nodes,
                close,
                lines: text[..text.len() - after.len()].matches('\n').count(),
            };
            return Ok((tag, after));
        }
        let letter = rest.chars().next().ok_or("a tag does not end")?;
        rest = match letter {
            '(' | '[' | '{' => {
                groups.open(letter)?;
                &rest[1..]
            }
            ')' | ']' | '}' => {
                groups.close(letter)?;
                &rest[1..]
            }
            _ => {
                let (node, after) = read_token(rest, letter, groups.is_after_dot())?;
                groups.push(node)?;
                after
            }
        };
    }
}

/// The nodes of the tag being read.
#[derive(Default)]
struct Groups<'a> {
    /// The nodes in the innermost open bracket, or of the tag if none is open.
    nodes: Vec<Node<'a>>,
    /// The open brackets, outermost first, each with the nodes before it.
    open: Vec<(char, Vec<Node<'a>>)>,
}

impl<'a> Groups<'a> {
    fn open(&mut self, bracket: char) -> Result<(), String> {
        if self.open.len() >= DEEPEST_GROUPS {
            return Err(format!("its brackets nest more than {DEEPEST_GROUPS} deep"));
        }
        self.open.push((bracket, std::mem::take(&mut self.nodes)));
        Ok(())
    }

    fn close(&mut self, bracket: char) -> Result<(), String> {
        match self.open.pop() {
            Some((open, before))
                if matches!((open, bracket), ('(', ')') | ('[', ']') | ('{', '}')) =>
            {
                let nodes = std::mem::replace(&mut self.nodes, before);
                self.push(Node::Group(open, nodes, bracket))
            }
            _ => Err(format!("a bracket `{bracket}` does not match")),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), String> {
        self.nodes.push(node);
        if self.nodes.len() > LONGEST_CHAIN {
            return Err(format!(
                "a tag of it has more than {LONGEST_CHAIN} parts side by side"
            ));
        }
        Ok(())
    }

    fn is_after_dot(&self) -> bool {
        self.nodes.last().is_some_and(|node| node.is("."))
    }
}

/// A word, an operator, a number or a string.
fn read_token(rest: &str, letter: char, after_dot: bool) -> Result<(Node<'_>, &str), String> {
    if letter == '"' || letter == '\'' {
        let end = closing_quote(&rest[1..], letter).ok_or("a text in quotes does not end")? + 1;
        let literal = Node::Literal(quoted(&decoded(&rest[1..end])?));
        return Ok((literal, &rest[end + 1..]));
    }
    if letter.is_ascii_digit() {
        return read_number(rest, after_dot);
    }
    if letter == '_' || letter.is_alphabetic() {
        let end = rest.find(|next: char| next != '_' && !next.is_alphanumeric());
        let (word, rest) = rest.split_at(end.unwrap_or(rest.len()));
        return Ok((Node::Word(word), rest));
    }
    const SIGNS: [&str; 22] = [
        "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ",",
        ":", "|", ";", "!", "@",
    ];
    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
    let sign = sign.ok_or_else(|| format!("it holds the sign `{letter}`, which Jinja has not"))?;
    let (sign, rest) = rest.split_at(sign.len());
    Ok((Node::Sign(sign), rest))
}

/// The position of the quote that ends a string literal.
fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.find(|next| {
        let ends = next == quote && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    })
}

/// A number as in Jinja2: digits with `_` between, a prefix for other bases, an exponent.
fn read_number(rest: &str, after_dot: bool) -> Result<(Node<'_>, &str), String> {
    let lower = rest.get(..2).unwrap_or("").to_lowercase();
    if let Some(base) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find(|(start, _)| *start == lower)
    {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let (number, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let value = u64::from_str_radix(&number[2..].replace('_', ""), base.1);
        let value = value.map_err(|_| format!("`{number}` is no number"))?;
        return Ok((Node::Literal(value.to_string()), rest));
    }
    let digits = digits(rest);
    let end = match after_dot {
        true => digits,
        false => end_of_float(rest, digits),
    };
    let (number, rest) = rest.split_at(end);
    let number = number.replace('_', "");
    if end == digits {
        return Ok((Node::Literal(number), rest));
    }
    let value: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no number"))?;
    if !value.is_finite() {
        return Err(format!("the number `{number}` is too large"));
    }
    Ok((Node::Literal(format!("{value:?}")), rest))
}

/// The number of digits, with `_` between, at the start of a text.
fn digits(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_ascii_digit())
        .unwrap_or(text.len())
}

/// The end of a number with `digits` digits before a fraction and an exponent, if there are any.
fn end_of_float(text: &str, digits_before: usize) -> usize {
    let mut end = digits_before;
    let starts_with_digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if let Some(after) = text[end..].strip_prefix('.')
        && starts_with_digit(after)
    {
        end += 1 + digits(after);
    }
    if let Some(after) = text[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(after.starts_with(['+', '-']));
        if starts_with_digit(&after[sign..]) {
            end += 1 + sign + digits(&after[sign..]);
        }
    }
    end
}

/// The value of a string literal in Python.
fn decoded(text: &str) -> Result<String, String> {
    let mut decoded = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            decoded.push(letter);
            continue;
        }
        let wrong = || format!("the text `{text}` holds an escape that is not read");
        let next = letters.next().ok_or_else(wrong)?;
        match next {
            '\n' => {}
            '\\' | '\'' | '"' => decoded.push(next),
            'n' => decoded.push('\n'),
            't' => decoded.push('\t'),
            'r' => decoded.push('\r'),
            'a' => decoded.push('\x07'),
            'b' => decoded.push('\x08'),
            'f' => decoded.push('\x0c'),
            'v' => decoded.push('\x0b'),
            'x' => decoded.push(hexadecimal(&mut letters, 2).ok_or_else(wrong)?),
            'u' => decoded.push(hexadecimal(&mut letters, 4).ok_or_else(wrong)?),
            'U' => decoded.push(hexadecimal(&mut letters, 8).ok_or_else(wrong)?),
            '0'..='7' => decoded.push(octal(next, &mut letters).ok_or_else(wrong)?),
            // Python turns `\é` into `\xe9`, and supports names of characters.
            other if !other.is_ascii() || other == 'N' => return Err(wrong()),
            other => decoded.extend(['\\', other]),
        }
    }
    Ok(decoded)
}

/// The character with a code of `count` hexadecimal digits.
fn hexadecimal(letters: &mut Chars<'_>, count: usize) -> Option<char> {
    let hex: String = letters.by_ref().take(count).collect();
    let all = hex.len() == count && hex.chars().all(|c| c.is_ascii_hexdigit());
    let value = u32::from_str_radix(&hex, 16).ok().filter(|_| all);
    value.and_then(char::from_u32)
}

/// The character with a code of one to three octal digits.
fn octal(first: char, letters: &mut Chars<'_>) -> Option<char> {
    let mut value = first.to_digit(8)?;
    for _ in 0..2 {
        let next = letters.as_str().chars().next();
        let Some(digit) = next.and_then(|c| c.to_digit(8)) else {
            break;
        };
        letters.next();
        value = value * 8 + digit;
    }
    char::from_u32(value)
}

/// A string literal with the two escapes that all readers share.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
