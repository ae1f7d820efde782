//! `chat`: a conversation on the terminal.

use std::io::{self, BufRead, Write};

use ivon_lora::answer::Generator;
use ivon_lora::data::{Message, Speaker};
use ivon_lora::forward::Sequence;
use ivon_lora::generate::WriteOptions;

use super::writing::{Request, open, show, write_options};
use super::{is_typed, stopped};
use crate::args::ChatArgs;
use crate::exit::{Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// Answers each line of standard input, until it ends.
///
/// # Errors
/// If model, adapter, chat template or a flag are wrong, and on a stop by a signal.
pub fn run(args: &ChatArgs, signals: &Signals) -> Result<(), Failure> {
    let options = write_options(&args.writing, 1)?;
    let mut screen = Screen::beside_lines(args.screen);
    let request = Request {
        is_chat: true,
        ..Request::default()
    };
    let generator = open(&args.writing, request, &mut screen, signals)?;
    if is_typed() {
        screen.note(
            "type a message; /new begins a new conversation, Ctrl-C stops an answer, Ctrl-D ends",
        );
    }
    screen.close();
    let mut conversation = Conversation::new(args.system.as_deref());
    let mut lines = io::stdin().lock().lines();
    loop {
        invite()?;
        signals.idle();
        let Some(line) = lines.next() else {
            return Ok(());
        };
        signals.at_work();
        match line?.trim() {
            "" => {}
            "/exit" => return Ok(()),
            "/new" => conversation = Conversation::new(args.system.as_deref()),
            said => conversation.answer(said, &generator, &options, signals)?,
        }
    }
}

/// Asks for a line where one is typed.
fn invite() -> io::Result<()> {
    if !is_typed() {
        return Ok(());
    }
    let mut out = io::stderr().lock();
    out.write_all(b"> ")?;
    out.flush()
}

/// What was said, and what the model remembers of it.
struct Conversation {
    messages: Vec<Message>,
    read: Option<Sequence>,
}

impl Conversation {
    fn new(system: Option<&str>) -> Self {
        let system = system.map(|text| Message::of(Speaker::System, text));
        Self {
            messages: system.into_iter().collect(),
            read: None,
        }
    }

    /// Answers what the user says, on standard output as it is written.
    fn answer(
        &mut self,
        said: &str,
        generator: &Generator,
        options: &WriteOptions,
        signals: &Signals,
    ) -> Result<(), Failure> {
        self.messages.push(Message::of(Speaker::User, said));
        let mut failed = None;
        let mut listener = |_: usize, piece: &str| {
            failed = show(piece).err();
            failed.is_none() && signals.go_on()
        };
        let messages = self.messages.clone();
        let written = generator.reply(&mut self.read, messages, options, &mut listener);
        if let Some(error) = failed {
            return Err(error.into());
        }
        show("\n")?;
        match written {
            Ok(written) => {
                let said = Message::of(Speaker::Assistant, written.text);
                self.messages.push(said);
                Ok(())
            }
            // Ctrl-C takes back what was asked, and the conversation goes on.
            Err(_) if signals.exit() == Some(Exit::Interrupted) && is_typed() => {
                self.messages.pop();
                self.read = None;
                Ok(())
            }
            Err(error) => Err(stopped(error, signals)),
        }
    }
}
