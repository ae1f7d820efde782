//! Text from tokens as they come: whole characters only, and nothing that may turn out to be the
//! beginning of a stop text.

use crate::data::{Tokenizer, TokenizerError};

/// What a decoder makes of bytes that are no character yet.
const UNFINISHED: char = '\u{FFFD}';

/// The text of tokens so far.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    tokens: Vec<u32>,
    /// Tokens whose text is known and stays, and where the tokens begin that are decoded together
    /// with the next ones: some decoders need what comes before.
    settled: usize,
    context: usize,
    text: String,
    /// The number of bytes that were given out.
    given: usize,
    is_stopped: bool,
}

impl TextStream {
    /// Adds a token; returns the text that is now certain, which may be empty. Special tokens have
    /// no text.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the tokens.
    pub fn push(
        &mut self,
        token: u32,
        tokenizer: &Tokenizer,
        stop: &[String],
    ) -> Result<&str, TokenizerError> {
        self.tokens.push(token);
        let known = tokenizer.decode_text(&self.tokens[self.context..self.settled])?;
        let all = tokenizer.decode_text(&self.tokens[self.context..])?;
        if all.len() > known.len() && !all.ends_with(UNFINISHED) {
            self.text.push_str(all.get(known.len()..).unwrap_or(""));
            (self.context, self.settled) = (self.settled, self.tokens.len());
        }
        self.cut(stop);
        let end = match self.is_stopped {
            true => self.text.len(),
            false => self.text.len() - begun(&self.text, stop),
        };
        Ok(self.give(end))
    }

    /// Ends the text: what was held back, with what is left of unfinished characters.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the tokens.
    pub fn finish(
        &mut self,
        tokenizer: &Tokenizer,
        stop: &[String],
    ) -> Result<&str, TokenizerError> {
        if !self.is_stopped {
            let known = tokenizer.decode_text(&self.tokens[self.context..self.settled])?;
            let all = tokenizer.decode_text(&self.tokens[self.context..])?;
            self.text.push_str(all.get(known.len()..).unwrap_or(""));
            (self.context, self.settled) = (self.settled, self.tokens.len());
            self.cut(stop);
        }
        Ok(self.give(self.text.len()))
    }

    /// Whether a stop text has appeared; the text ends before it.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// All of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ends the text before the first stop text.
    fn cut(&mut self, stop: &[String]) {
        let stop = stop.iter().filter(|stop| !stop.is_empty());
        let places = stop.filter_map(|stop| self.text.find(stop.as_str()));
        if let Some(place) = places.min() {
            self.text.truncate(place);
            self.is_stopped = true;
        }
    }

    fn give(&mut self, end: usize) -> &str {
        let from = self.given.min(end);
        self.given = end.max(from);
        &self.text[from..end]
    }
}

/// The length of the longest end of a text that a stop text begins with.
fn begun(text: &str, stop: &[String]) -> usize {
    let of = |stop: &String| {
        let lengths = (1..stop.len()).rev();
        let mut beginnings = lengths.filter_map(|length| stop.get(..length));
        beginnings
            .find(|beginning| text.ends_with(beginning))
            .map_or(0, str::len)
    };
    stop.iter().map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Checkpoint;
    use crate::testing::real_model;

    fn stops(stop: &[&str]) -> Vec<String> {
        stop.iter().map(|stop| stop.to_string()).collect()
    }

    #[test]
    fn the_end_that_a_stop_text_may_begin_with_is_held_back() {
        let stop = stops(&["\n\nQ:", "END"]);
        assert_eq!(begun("an answer\n\n", &stop), 2);
        assert_eq!(begun("an answer\n", &stop), 1);
        assert_eq!(begun("the E", &stop), 1);
        assert_eq!(begun("the EN", &stop), 2);
        assert_eq!(begun("the", &stop), 0);
        assert_eq!(begun("é", &stops(&["éa"])), 2);
    }

    fn tokenizer(test: &str) -> Option<Tokenizer> {
        let path = real_model(test)?;
        let checkpoint = Checkpoint::open(path.to_str().unwrap()).unwrap();
        Some(checkpoint.tokenizer().unwrap())
    }

    #[test]
    fn pieces_are_whole_characters_and_together_the_text() {
        let Some(tokenizer) = tokenizer("pieces_are_whole_characters_and_together_the_text") else {
            return;
        };
        let text = "Ein Käse 🧀 für 日本語, naïve 👩‍👩‍👧 end.";
        let tokens = tokenizer.encode(text, false).unwrap();
        assert!(tokens.len() > text.chars().count() / 2);
        let (mut stream, mut pieces) = (TextStream::default(), Vec::new());
        for &token in &tokens {
            let piece = stream.push(token, &tokenizer, &[]).unwrap();
            assert!(!piece.contains(UNFINISHED), "{piece}");
            pieces.push(piece.to_string());
        }
        assert!(pieces.iter().any(String::is_empty));
        pieces.push(stream.finish(&tokenizer, &[]).unwrap().to_string());
        assert_eq!(pieces.concat(), text);
        assert_eq!(stream.text(), text);
        // An unfinished character at the end is shown as what it is.
        let mut stream = TextStream::default();
        let cut = tokenizer.encode("🧀", false).unwrap();
        assert!(cut.len() > 1);
        assert_eq!(stream.push(cut[0], &tokenizer, &[]).unwrap(), "");
        assert_eq!(stream.finish(&tokenizer, &[]).unwrap(), "\u{FFFD}");
    }

    #[test]
    fn a_text_ends_before_a_stop_text_that_several_tokens_spell() {
        let Some(tokenizer) = tokenizer("a_text_ends_before_a_stop_text_that_several_tokens_spell")
        else {
            return;
        };
        let stop = stops(&["quick brown"]);
        let tokens = tokenizer
            .encode("the quick grey, quick brown fox", false)
            .unwrap();
        let (mut stream, mut pieces) = (TextStream::default(), String::new());
        for &token in &tokens {
            pieces.push_str(stream.push(token, &tokenizer, &stop).unwrap());
            if stream.is_stopped() {
                break;
            }
        }
        pieces.push_str(stream.finish(&tokenizer, &stop).unwrap());
        assert_eq!(pieces, "the quick grey, ");
        assert_eq!(stream.text(), pieces);
        assert!(stream.is_stopped() && stream.tokens().len() < tokens.len());
    }

    #[test]
    fn special_tokens_have_no_text() {
        let Some(tokenizer) = tokenizer("special_tokens_have_no_text") else {
            return;
        };
        let tokens = tokenizer.encode("yes<|im_end|>\n", false).unwrap();
        let mut stream = TextStream::default();
        for &token in &tokens {
            stream.push(token, &tokenizer, &[]).unwrap();
        }
        stream.finish(&tokenizer, &[]).unwrap();
        assert_eq!((stream.text(), stream.tokens()), ("yes\n", &tokens[..]));
    }
}
