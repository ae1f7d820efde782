//! Shapes and words → a picture as SVG, inside a page or as a file of its own.

use std::fmt::Write;

use super::letters::fitted;

/// The number of colours for series; the classes `tone-0` … of the style.
const TONES: usize = 7;

/// The style of the classes, in both themes. A page has it once, a file has its own copy.
pub const STYLE: &str = "\
:root{--ink:#1f1d1a;--muted:#6a665e;--rule:#b9b3a7;--grid:#e4e0d7;--paper:#fdfcf9;\
--tone-0:#1f6aa5;--tone-1:#c2571a;--tone-2:#8a8478;--tone-3:#2f7d57;--tone-4:#8257a8;--tone-5:#b03a5b;--tone-6:#8a6d00}\
@media screen and (prefers-color-scheme:dark){:root{--ink:#e9e6df;--muted:#a19c92;--rule:#5b5850;--grid:#302f2c;--paper:#1a1a19;\
--tone-0:#79b4e8;--tone-1:#f09a5c;--tone-2:#9c968a;--tone-3:#6fc49a;--tone-4:#bd9be0;--tone-5:#ee87a4;--tone-6:#d6b84c}}\
@media print{:root{--paper:#fff}}\
.picture{font:12px/1.3 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-variant-numeric:tabular-nums}\
.picture text{fill:var(--ink)}.picture .small{font-size:11px}.picture .muted{fill:var(--muted)}\
.picture .title{font-size:13px;font-weight:600}.picture .toned{fill:currentColor;font-weight:600}\
.picture .grid{stroke:var(--grid)}.picture .axis{stroke:var(--rule)}.picture .guide{stroke:var(--muted);stroke-dasharray:4 4}\
.picture .stroke{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
.picture .dashed{stroke-dasharray:5 4}.picture .thin{stroke:currentColor;stroke-width:1.2}\
.picture .fill{fill:currentColor}.picture .faint{fill:currentColor;opacity:.25}.picture .halo{paint-order:stroke;stroke:var(--paper);stroke-width:3px}\
.picture .dot{fill:currentColor;stroke:var(--paper);stroke-width:1.5}.picture .back{fill:var(--paper)}\
.tone-0{color:var(--tone-0)}.tone-1{color:var(--tone-1)}.tone-2{color:var(--tone-2)}.tone-3{color:var(--tone-3)}\
.tone-4{color:var(--tone-4)}.tone-5{color:var(--tone-5)}.tone-6{color:var(--tone-6)}";

/// Which part of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    title: String,
    size: [u32; 2],
    body: String,
}

impl Picture {
    /// Its title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// As part of an HTML page that has the style of pictures.
    pub fn inline(&self) -> String {
        self.element(0, "")
    }

    /// As a file of its own, with its style, a margin and a background.
    pub fn file(&self) -> String {
        let [width, height] = self.size.map(|size| size + 2 * MARGIN);
        let style = format!(
            "<style>{STYLE}</style><rect class=\"back\" x=\"-{MARGIN}\" y=\"-{MARGIN}\" width=\"{width}\" height=\"{height}\"/>"
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n",
            self.element(MARGIN, &style)
        )
    }

    fn element(&self, margin: u32, before: &str) -> String {
        let [width, height] = self.size.map(|size| size + 2 * margin);
        let (title, corner) = (escape(&self.title), -i64::from(margin));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture\" viewBox=\"{corner} {corner} {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{before}{}</svg>",
            self.body
        )
    }
}

#[cfg(test)]
impl Picture {
    /// Size, and the box of each text with its words: left, top, right, bottom.
    pub fn texts(&self) -> ([f64; 2], Vec<(String, [f64; 4])>) {
        let attribute = |tag: &str, name: &str| {
            let from = tag.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
            tag[from..].split('"').next().unwrap().to_string()
        };
        let mut found = Vec::new();
        for part in self.body.split("<text").skip(1) {
            let (tag, rest) = part.split_once('>').unwrap();
            let words = rest.split("</text>").next().unwrap();
            let words = [
                ("&lt;", "<"),
                ("&gt;", ">"),
                ("&quot;", "\""),
                ("&#39;", "'"),
                ("&amp;", "&"),
            ]
            .iter()
            .fold(words.to_string(), |words, (from, to)| {
                words.replace(from, to)
            });
            let [x, y] = ["x", "y"].map(|name| attribute(tag, name).parse::<f64>().unwrap());
            let width = super::letters::width_of(&attribute(tag, "class"), &words);
            let left = match attribute(tag, "text-anchor").as_str() {
                "start" => x,
                "middle" => x - width / 2.0,
                _ => x - width,
            };
            found.push((words, [left, y - 11.0, left + width, y + 3.0]));
        }
        (self.size.map(f64::from), found)
    }
}

/// The margin of a picture that is a file of its own.
const MARGIN: u32 = 16;

/// A picture that is being drawn. Places are `[x, y]` in its own units, with y downwards.
#[derive(Debug)]
pub struct Drawing {
    picture: Picture,
}

impl Drawing {
    /// An empty picture with this title and size.
    pub fn new(title: &str, width: f64, height: f64) -> Self {
        Self {
            picture: Picture {
                title: title.into(),
                size: [width.ceil() as u32, height.ceil() as u32],
                body: String::new(),
            },
        }
    }

    /// The picture.
    pub fn finish(self) -> Picture {
        self.picture
    }

    /// Gives everything drawn until [`end`](Self::end) this colour; after the last one the colours
    /// repeat.
    pub fn tone(&mut self, tone: usize) {
        self.put(format_args!("<g class=\"tone-{}\">", tone % TONES));
    }

    /// Ends what [`tone`](Self::tone) began.
    pub fn end(&mut self) {
        self.put(format_args!("</g>"));
    }

    pub fn line(&mut self, class: &str, from: [f64; 2], to: [f64; 2]) {
        let [x1, y1, x2, y2] = [from[0], from[1], to[0], to[1]].map(number);
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"
        ));
    }

    /// A rectangle by two opposite corners.
    pub fn rectangle(&mut self, class: &str, one: [f64; 2], other: [f64; 2]) {
        let [x, y] = [one[0].min(other[0]), one[1].min(other[1])].map(number);
        let [width, height] = [(one[0] - other[0]).abs(), (one[1] - other[1]).abs()].map(number);
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    pub fn circle(&mut self, class: &str, at: [f64; 2], radius: f64) {
        let [x, y, radius] = [at[0], at[1], radius].map(number);
        self.put(format_args!(
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"
        ));
    }

    /// A line through points; a point that is not finite leaves a gap.
    pub fn path(&mut self, class: &str, points: &[[f64; 2]]) {
        let mut data = String::new();
        let mut pen_is_down = false;
        for point in points {
            let is_finite = point.iter().all(|value| value.is_finite());
            if is_finite {
                let _ = write!(
                    data,
                    "{}{} {}",
                    if pen_is_down { "L" } else { "M" },
                    number(point[0]),
                    number(point[1])
                );
            }
            pen_is_down = is_finite;
        }
        self.put(format_args!("<path class=\"{class}\" d=\"{data}\"/>"));
    }

    /// Words at a place, escaped, and cut if they would leave the picture.
    pub fn text(&mut self, class: &str, at: [f64; 2], anchor: Anchor, words: &str) {
        let (left, right) = (at[0], f64::from(self.picture.size[0]) - at[0]);
        let room = match anchor {
            Anchor::Start => right,
            Anchor::Middle => 2.0 * left.min(right),
            Anchor::End => left,
        };
        let words = &fitted(class, words, room);
        if words.is_empty() {
            return;
        }
        let [x, y] = at.map(number);
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
            escape(words)
        ));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = self.picture.body.write_fmt(element);
    }
}

/// A coordinate with at most one decimal; if it is not finite, 0, which every viewer accepts.
fn number(value: f64) -> String {
    let rounded = (10.0 * value).round() / 10.0;
    if rounded.is_finite() {
        format!("{}", rounded + 0.0)
    } else {
        "0".into()
    }
}

/// Words escaped for use between tags and in quotes, in HTML and XML. Characters that XML does not allow
/// are replaced.
pub fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(letter),
            '\u{0}'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_leave_their_place() {
        assert_eq!(
            escape("<script>\"a\" & 'b'</script>\u{1}"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;\u{fffd}"
        );
        let mut drawing = Drawing::new("a<b", 100.0, 10.0);
        drawing.text("small", [80.0, 2.04], Anchor::End, "</text>");
        let picture = drawing.finish();
        assert!(
            picture
                .inline()
                .contains("aria-label=\"a&lt;b\"><title>a&lt;b</title>")
        );
        assert!(picture.inline().ends_with(
            "<text class=\"small\" x=\"80\" y=\"2\" text-anchor=\"end\">&lt;/text&gt;</text></svg>"
        ));
        assert!(
            picture.file().starts_with("<?xml")
                && picture.file().contains("prefers-color-scheme:dark")
        );
    }

    #[test]
    fn a_path_has_a_gap_where_a_number_is_missing() {
        let mut drawing = Drawing::new("", 1.0, 1.0);
        drawing.path(
            "stroke",
            &[
                [0.0, 0.0],
                [1.0, 1.26],
                [2.0, f64::NAN],
                [3.0, -0.01],
                [4.0, 0.0],
            ],
        );
        assert!(drawing.finish().body.contains("d=\"M0 0L1 1.3M3 0L4 0\""));
    }
}
