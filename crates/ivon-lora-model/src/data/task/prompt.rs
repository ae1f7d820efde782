//! A prompt in parts: some may be shortened if it is too long, the others never.

/// One part of a [`Prompt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether the part may be shortened from its end: passages, questions and texts may;
    /// instructions, choices and the answer cue may not.
    pub may_lose: bool,
}

/// A prompt as a sequence of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The parts.
    pub parts: Vec<Part>,
}

impl Prompt {
    /// A prompt that cannot be shortened.
    pub fn fixed(text: impl Into<String>) -> Self {
        Self::default().then(text)
    }

    /// Appends a part that cannot be shortened.
    pub fn then(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part {
            text: text.into(),
            may_lose: false,
        });
        self
    }

    /// Appends a part that may be shortened.
    pub fn then_field(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part {
            text: text.into(),
            may_lose: true,
        });
        self
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }

    /// The longest form of the prompt that `fits`; none if there is no such form.
    ///
    /// The longest part that may be shortened is shortened first, from its end, then the next
    /// longest. What remains of a part is its longest prefix (in characters, without trailing
    /// spaces) with which the prompt still fits. At least one of these parts keeps some text:
    /// instructions alone ask nothing.
    ///
    /// # Errors
    /// Those of `fits`.
    pub fn shortened<E>(
        &self,
        mut fits: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Option<Self>, E> {
        if fits(&self.text())? {
            return Ok(Some(self.clone()));
        }
        let mut order: Vec<usize> = (0..self.parts.len())
            .filter(|&index| self.parts[index].may_lose)
            .collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.parts[index].text.len()));
        let mut shorter = self.clone();
        for index in order {
            let whole = std::mem::take(&mut shorter.parts[index].text);
            if fits(&shorter.text())? {
                shorter.parts[index].text = shorter.longest_beginning(index, &whole, &mut fits)?;
                let says_something = shorter
                    .parts
                    .iter()
                    .any(|part| part.may_lose && !part.text.trim().is_empty());
                return Ok(says_something.then_some(shorter));
            }
        }
        Ok(None)
    }

    /// The longest prefix of `whole` as part `index` with which the prompt fits, by bisection:
    /// without the part it fits, with all of it it does not.
    fn longest_beginning<E>(
        &self,
        index: usize,
        whole: &str,
        fits: &mut impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<String, E> {
        let ends: Vec<usize> = whole.char_indices().map(|(start, _)| start).collect();
        let mut tried = self.clone();
        let (mut kept, mut fitting, mut too_long) = (String::new(), 0, ends.len());
        while too_long - fitting > 1 {
            let middle = fitting.midpoint(too_long);
            let beginning = whole[..ends[middle]].trim_end();
            tried.parts[index].text = beginning.into();
            if fits(&tried.text())? {
                (kept, fitting) = (beginning.into(), middle);
            } else {
                too_long = middle;
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Shortens to at most `limit` characters.
    fn within(prompt: &Prompt, limit: usize) -> Option<String> {
        let fits = |text: &str| Ok::<_, Infallible>(text.chars().count() <= limit);
        prompt.shortened(fits).unwrap().map(|prompt| prompt.text())
    }

    fn example() -> Prompt {
        Prompt::fixed("Q: ")
            .then_field("so what?")
            .then(" C: ")
            .then_field("one two three four")
            .then(" A:")
    }

    #[test]
    fn the_longest_field_loses_first_and_the_cue_never() {
        assert_eq!(within(&example(), 99).unwrap(), example().text());
        assert_eq!(
            within(&example(), 28).unwrap(),
            "Q: so what? C: one two th A:"
        );
        // The cut is after a space, which is removed.
        assert_eq!(within(&example(), 26).unwrap(), "Q: so what? C: one two A:");
        assert_eq!(within(&example(), 18).unwrap(), "Q: so what? C:  A:");
        assert_eq!(within(&example(), 12).unwrap(), "Q: so C:  A:");
    }

    #[test]
    fn a_prompt_that_would_keep_nothing_of_its_fields_has_no_shorter_form() {
        assert_eq!(within(&example(), 10), None);
        assert_eq!(within(&example(), 5), None);
        assert_eq!(within(&Prompt::fixed("whole"), 4), None);
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        let prompt = Prompt::default().then_field("ééé東京").then("!");
        assert_eq!(within(&prompt, 5).unwrap(), "ééé東!");
    }
}
