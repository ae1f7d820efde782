//! Words, tables and pictures → one HTML page that needs nothing else: no script, no network, no other
//! file.

use crate::report::plot::{Picture, STYLE, escape};
use ivon_lora::metrics::Table;

/// The style of a page, besides that of its pictures.
const PAGE_STYLE: &str = "\
:root{color-scheme:light dark}*{box-sizing:border-box}\
html{-webkit-text-size-adjust:100%}body{margin:0;background:var(--paper);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-variant-numeric:tabular-nums}\
main{max-width:66rem;margin:0 auto;padding:clamp(1.25rem,4vw,3.5rem) clamp(1rem,4vw,3rem)}\
h1,h2,.lead{font-family:'Iowan Old Style','Palatino Linotype',Palatino,'URW Palladio L',P052,'Book Antiqua',Georgia,serif;text-wrap:balance}\
h1{font-size:clamp(1.8rem,5vw,2.7rem);line-height:1.12;margin:.2rem 0 .6rem;font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}\
.kicker{color:var(--muted);font-size:.85rem;letter-spacing:.04em;margin:0}\
.lead{font-size:clamp(1.1rem,2.6vw,1.35rem);line-height:1.45;max-width:44rem;margin:0 0 1.6rem}\
h2{font-size:1.5rem;line-height:1.2;margin:0 0 .35rem;font-weight:600}h3{font-size:1rem;margin:1.8rem 0 .4rem}\
section{border-top:1px solid var(--grid);padding-top:1.6rem;margin-top:2.4rem}\
section>p{max-width:44rem;margin:.3rem 0 1rem}.note{color:var(--muted);font-size:.9rem}\
nav{font-size:.9rem;margin:1.4rem 0 0}nav a{color:var(--tone-0);text-decoration:none;margin-right:1.1rem;white-space:nowrap}\
nav a:hover{text-decoration:underline}\
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.9rem 1.6rem;margin:1.6rem 0 0}\
.facts div{border-top:2px solid var(--rule);padding-top:.35rem;min-width:0}.facts dt{color:var(--muted);font-size:.8rem}\
.facts dd{margin:0;font-size:.95rem;overflow-wrap:anywhere}\
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:2.2rem 2.6rem;margin-top:1.2rem}\
figure{margin:0;break-inside:avoid}figure svg{display:block;width:100%;height:auto;max-width:32rem}\
figcaption{color:var(--muted);font-size:.85rem;line-height:1.45;margin-top:.4rem;max-width:32rem}\
.wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.95rem}\
th{color:var(--muted);font-size:.8rem;font-weight:500;text-align:right;vertical-align:bottom;padding:.2rem 1.1rem .35rem 0;\
border-bottom:1px solid var(--rule)}td{text-align:right;vertical-align:top;padding:.4rem 1.1rem .4rem 0;border-bottom:1px solid var(--grid);white-space:nowrap}\
th:first-child,td:first-child,th.words,td.words{text-align:left}td:first-child{font-weight:500}\
td small{display:block;color:var(--muted);font-size:.78rem;font-weight:400}td.text{white-space:normal;min-width:18rem;max-width:44rem;color:var(--muted);padding-top:0}\
tr.open td{border-bottom:0}\
ul.findings{list-style:none;padding:0;margin:1rem 0;max-width:48rem}\
ul.findings li{border-left:4px solid currentColor;padding:.1rem 0 .1rem .9rem;margin:0 0 1rem}ul.findings p{margin:0;color:var(--ink)}\
ul.findings b{font-size:.8rem;letter-spacing:.03em}ul.findings .remedy{color:var(--muted)}\
.settings{columns:18rem 3;column-gap:2.6rem;margin-top:1rem}.settings div{break-inside:avoid;margin:0 0 1.4rem}.settings h3{margin:0 0 .3rem}\
.settings dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .9rem;margin:0;font-size:.87rem}\
.settings dt{color:var(--muted)}.settings dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:0}\
footer{color:var(--muted);font-size:.85rem;margin-top:3rem}\
@media print{body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}section{break-inside:auto}\
h2,h3{break-after:avoid}.pictures{grid-template-columns:1fr 1fr}.wide{overflow:visible}tr{break-inside:avoid}}";

/// A section of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The target of its link.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// Its contents, as markup.
    pub html: String,
}

impl Section {
    /// A section with this heading; `id` has no spaces.
    pub fn new(id: impl Into<String>, title: impl Into<String>, html: String) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            html,
        }
    }

    fn link(&self) -> String {
        format!("<a href=\"#{}\">{}</a> ", self.id, escape(&self.title))
    }

    fn html(&self) -> String {
        let (id, title, html) = (&self.id, escape(&self.title), &self.html);
        format!("<section id=\"{id}\"><h2>{title}</h2>{html}</section>\n")
    }
}

/// A picture of a page, and the name of its file if it is written as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The name of its file without the extension: `reliability-mean`.
    pub file: String,
    /// The picture.
    pub picture: Picture,
    /// The caption below it.
    pub caption: String,
}

/// A whole page, with `kicker` above the title, and `lead` and `facts` below it.
pub fn document(
    kicker: &str,
    title: &str,
    lead: &str,
    facts: &[(String, String)],
    sections: &[Section],
) -> String {
    let links: String = sections.iter().map(Section::link).collect();
    let body: String = sections.iter().map(Section::html).collect();
    let fact = |(name, value): &(String, String)| {
        let (name, value) = (escape(name), escape(value));
        format!("<div><dt>{name}</dt><dd>{value}</dd></div>")
    };
    let facts: String = facts.iter().map(fact).collect();
    let lead = if lead.is_empty() {
        String::new()
    } else {
        format!("<p class=\"lead\">{}</p>", escape(lead))
    };
    let (kicker, title, version) = (escape(kicker), escape(title), env!("CARGO_PKG_VERSION"));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title><style>{STYLE}{PAGE_STYLE}</style></head>\n<body><main>\
         <header><p class=\"kicker\">{kicker}</p><h1>{title}</h1>{lead}<dl class=\"facts\">{facts}</dl><nav>{links}</nav></header>\n\
         {body}<footer>Written by ivon-lora {version}.</footer></main></body></html>\n"
    )
}

/// A paragraph.
pub fn paragraph(words: &str) -> String {
    format!("<p>{}</p>", escape(words))
}

/// A paragraph in muted type.
pub fn note(words: &str) -> String {
    format!("<p class=\"note\">{}</p>", escape(words))
}

/// Figures, side by side if there is room.
pub fn figures<'a>(figures: impl IntoIterator<Item = &'a Figure>) -> String {
    let figure = |figure: &Figure| {
        format!(
            "<figure>{}<figcaption>{}</figcaption></figure>",
            figure.picture.inline(),
            escape(&figure.caption)
        )
    };
    format!(
        "<div class=\"pictures\">{}</div>",
        figures.into_iter().map(figure).collect::<String>()
    )
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its words.
    pub words: String,
    /// Smaller words below them; empty for none.
    pub small: String,
    /// Whether it is bold.
    pub is_bold: bool,
}

impl Cell {
    /// A cell with these words.
    pub fn of(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            ..Self::default()
        }
    }

    /// A cell with these words, and smaller ones below.
    pub fn with(words: impl Into<String>, small: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            small: small.into(),
            is_bold: false,
        }
    }

    fn html(&self) -> String {
        let words = escape(&self.words);
        let words = if self.is_bold {
            format!("<b>{words}</b>")
        } else {
            words
        };
        if self.small.is_empty() {
            words
        } else {
            format!("{words}<small>{}</small>", escape(&self.small))
        }
    }
}

/// A table, which scrolls on a narrow screen. The first `words` columns hold words and are aligned to the
/// left; a row may have a text below it, across all columns.
pub fn table(head: &[&str], words: usize, rows: &[(Vec<Cell>, Option<String>)]) -> String {
    let name = |(column, name): (usize, &&str)| {
        format!("<th{}>{}</th>", class(column, words), escape(name))
    };
    let head: String = head.iter().enumerate().map(name).collect();
    let rows = rows.iter().map(|row| row_html(row, words));
    format!(
        "<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>{}</tbody></table></div>",
        rows.collect::<String>()
    )
}

/// The same of words alone, of which the first column is aligned to the left.
pub fn plain_table(found: &Table) -> String {
    let head: Vec<&str> = found.head.iter().map(String::as_str).collect();
    let cells = |row: &Vec<String>| (row.iter().map(Cell::of).collect(), None);
    let rows: Vec<_> = found.rows.iter().map(cells).collect();
    table(&head, 1, &rows)
}

/// The class of a column, of which the first `words` hold words.
fn class(column: usize, words: usize) -> &'static str {
    if column < words {
        " class=\"words\""
    } else {
        ""
    }
}

fn row_html((cells, text): &(Vec<Cell>, Option<String>), words: usize) -> String {
    let cell = |(column, cell): (usize, &Cell)| {
        format!("<td{}>{}</td>", class(column, words), cell.html())
    };
    let html: String = cells.iter().enumerate().map(cell).collect();
    match text {
        None => format!("<tr>{html}</tr>"),
        Some(text) => format!(
            "<tr class=\"open\">{html}</tr><tr><td class=\"words text\" colspan=\"{}\">{}</td></tr>",
            cells.len(),
            escape(text)
        ),
    }
}

/// Groups of names and values in columns.
pub fn settings(groups: &[(String, Vec<(String, String)>)]) -> String {
    let group = |(title, pairs): &(String, Vec<(String, String)>)| {
        let pairs: String = pairs
            .iter()
            .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)))
            .collect();
        format!("<div><h3>{}</h3><dl>{pairs}</dl></div>", escape(title))
    };
    format!(
        "<div class=\"settings\">{}</div>",
        groups.iter().map(group).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_run_is_text_on_the_page() {
        let evil = "<img src=x onerror=alert(1)>\"'&";
        let rows = [(
            vec![
                Cell::with(evil, evil),
                Cell {
                    words: evil.into(),
                    is_bold: true,
                    ..Cell::default()
                },
            ],
            Some(evil.to_string()),
        )];
        let html = [
            table(&[evil, evil], 1, &rows),
            settings(&[(evil.into(), vec![(evil.into(), evil.into())])]),
            paragraph(evil),
        ]
        .concat();
        let page = document(
            evil,
            evil,
            evil,
            &[(evil.into(), evil.into())],
            &[Section::new("a", evil, html)],
        );
        assert!(!page.contains("<img") && page.contains("&lt;img"));
        for outside in ["http:", "https:", "<script", "url(", "@import", "src="] {
            let inside = page.replace("src=x", "").contains(outside);
            assert!(!inside, "{outside}");
        }
    }

    #[test]
    fn a_row_may_have_a_text_below_it() {
        let html = table(
            &["id", "n"],
            1,
            &[(vec![Cell::of("a"), Cell::of("1")], Some("words".into()))],
        );
        assert!(html.contains(
            "<tr class=\"open\"><td class=\"words\">a</td><td>1</td></tr><tr><td class=\"words text\" colspan=\"2\">words</td></tr>"
        ));
    }
}
