//! A chat template around a prompt, and around a conversation.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use ivon_lora::data::{ChatTemplate, DataError, Message, Speaker, Tokenizer};
use ivon_lora::model::Checkpoint;
use ivon_lora_fuzz::{check, fixed_path, said};

thread_local! {
    static TOKENIZER: RefCell<Option<Tokenizer>> = const { RefCell::new(None) };
}

fn prepare(_: &Path) {
    let checkpoint =
        Checkpoint::open(&fixed_path("model").to_string_lossy()).expect("the fixed model opens");
    TOKENIZER.with_borrow_mut(|tokenizer| {
        *tokenizer = Some(checkpoint.tokenizer().expect("its tokenizer opens"))
    });
}

fn parse(_: &Path, data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    TOKENIZER.with_borrow_mut(|tokenizer| {
        let tokenizer = tokenizer.as_mut().expect("prepared");
        tokenizer.chat_template = Some(source.into());
        if let Some(template) = said(ChatTemplate::of(tokenizer), DataError::hint) {
            let _ = said(template.render("Is ice {{ cold }}?"), DataError::hint);
            let messages = [Speaker::User, Speaker::Assistant].map(|who| Message::of(who, "é "));
            let _ = said(template.render_messages(&messages, false), DataError::hint);
        }
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));
