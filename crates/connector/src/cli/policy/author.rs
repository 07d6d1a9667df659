//! `fairlead policy new` and `templates`: from a need to an offer, by flags or by questions on a terminal.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use policy::template::{self, Parameter, Template};
use policy::{Clause, Enforcement, Lang, Policy};
use serde::Serialize;

use super::Shelf;
use crate::cli::output::Failure;

/// What the offer is to say.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// A template's name (`fairlead policy templates` lists them); several compose into one policy
    #[arg(long = "template", value_name = "NAME")]
    templates: Vec<String>,
    /// A template's blank: NAME=VALUE, or TEMPLATE.NAME=VALUE where two templates ask for the same name
    #[arg(long = "set", value_name = "NAME=VALUE")]
    values: Vec<String>,
    /// Who offers
    #[arg(long)]
    assigner: Option<String>,
    /// The dataset
    #[arg(long)]
    target: Option<String>,
    /// The offer's identifier; the dataset's with `#offer` if left out
    #[arg(long)]
    uid: Option<String>,
    /// Where to write it: Turtle, as a dataset's description carries it, if the name ends in .ttl, else JSON. Standard
    /// output if left out; an existing file is not overwritten
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A template in the list.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    class: Option<u8>,
    label: &'static str,
    parameters: Vec<String>,
    enforcement: &'static str,
    /// Whether this connector takes such an offer.
    held: bool,
}

pub(super) fn templates(shelf: &Shelf) -> Result<(), Failure> {
    let rows: Vec<Row> =
        template::all().iter().map(|template| row(shelf, template)).collect::<Result<_, _>>()?;
    shelf.output.list(
        &rows,
        ["name", "IDS class", "what it says", "asks for", "enforcement", "held here"],
        |row| {
            let class = row.class.map(|class| class.to_string()).unwrap_or_default();
            let held = if row.held { "yes" } else { "no" };
            [
                row.name.into(),
                class,
                row.label.into(),
                row.parameters.join(" "),
                row.enforcement.into(),
                held.into(),
            ]
        },
        "",
    )
}

fn row(shelf: &Shelf, template: &'static Template) -> Result<Row, Failure> {
    let example = example(template, &shelf.profiles)?;
    Ok(Row {
        name: &template.name,
        class: template.class,
        label: template.label(shelf.lang()),
        parameters: template.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        enforcement: weakest(&example.render(Lang::En)),
        held: crate::enforceable::require(&example).is_ok(),
    })
}

/// The policy that a template makes of its own examples.
pub(crate) fn example(
    template: &Template,
    profiles: &policy::Profiles,
) -> Result<Policy, policy::refusal::Refusal> {
    let parts = [(template, template.examples())];
    template::offer(
        "https://a.example/offers/1",
        "https://a.example/id",
        "https://a.example/data/1",
        &parts,
        profiles,
    )
}

/// How the weakest clause is held.
pub(crate) fn weakest(clauses: &[Clause]) -> &'static str {
    match clauses.iter().map(|clause| clause.enforcement).min() {
        Some(Enforcement::Legal) => "legal",
        Some(Enforcement::Procedural) => "procedural",
        Some(Enforcement::Technical) | None => "technical",
    }
}

pub(super) fn new(shelf: &Shelf, args: &NewArgs) -> Result<(), Failure> {
    let mut asking = std::io::stdin().is_terminal().then(|| Terminal {
        answers: std::io::stdin().lock(),
        questions: std::io::stderr(),
        lang: shelf.lang(),
    });
    let policy = compose(shelf, args, asking.as_mut())?;
    let turtle = args.out.as_ref().is_some_and(|out| out.extension().is_some_and(|ending| ending == "ttl"));
    let text = if turtle {
        policy.to_turtle()?
    } else {
        let value: serde_json::Value =
            serde_json::from_str(policy.canonical_text()).map_err(Failure::ours)?;
        serde_json::to_string_pretty(&value).map_err(Failure::ours)?
    };
    let Some(out) = &args.out else { return shelf.output.line(&text) };
    let written = std::fs::File::create_new(out).and_then(|mut file| writeln!(file, "{}", text.trim_end()));
    written.map_err(|error| {
        Failure::usage(
            format!("cannot write `{}`: {error}", out.display()),
            "choose a new name in a folder that exists",
        )
    })?;
    let clauses = crate::admin::agreements::clauses(&policy, shelf.lang());
    shelf.output.show(&clauses, |clauses| {
        format!("{}\n{}", out.display(), crate::cli::datasets::clause_lines(clauses))
    })
}

fn compose(
    shelf: &Shelf,
    args: &NewArgs,
    mut asking: Option<&mut Terminal<impl BufRead, impl Write>>,
) -> Result<Policy, Failure> {
    let mut names = args.templates.clone();
    if names.is_empty() {
        let Some(terminal) = asking.as_mut() else {
            return Err(Failure::usage(
                "no template is named",
                "give --template; `fairlead policy templates` lists them",
            ));
        };
        let answer =
            terminal.ask("templates, separated by commas (see `fairlead policy templates`)", "purpose")?;
        names = answer.split(',').map(|name| name.trim().to_owned()).collect();
    }
    let chosen: Vec<&'static Template> =
        names.iter().map(|name| template::named(name)).collect::<Result<_, _>>()?;
    let mut given = given(&args.values, &chosen)?;
    let mut parts = Vec::new();
    for template in chosen {
        let mut values = BTreeMap::new();
        for parameter in &template.parameters {
            let scoped = given.remove(&format!("{}.{}", template.name, parameter.name));
            let value = match (scoped.or_else(|| given.get(&parameter.name).cloned()), asking.as_mut()) {
                (Some(value), _) => Some(value),
                (None, Some(terminal)) => Some(terminal.ask_parameter(template, parameter)?),
                // The template's own refusal names what is missing.
                (None, None) => None,
            };
            values.extend(value.map(|value| (parameter.name.clone(), value)));
        }
        parts.push((template, values));
    }
    let mut needed =
        |flag: &str, value: &Option<String>, question: &str, example: &str| match (value, asking.as_mut()) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(terminal)) => terminal.ask(question, example),
            (None, None) => {
                Err(Failure::usage(format!("{flag} is missing"), format!("give {flag}, e.g. {example}")))
            }
        };
    let assigner = needed("--assigner", &args.assigner, "who offers", "https://hku.example/id")?;
    let target = needed("--target", &args.target, "which dataset", "https://hku.example/data/weather")?;
    let uid = args.uid.clone().unwrap_or_else(|| format!("{target}#offer"));
    Ok(template::offer(&uid, &assigner, &target, &parts, &shelf.profiles)?)
}

/// The values of --set; one that no chosen template asks for is a mistake.
fn given(values: &[String], chosen: &[&Template]) -> Result<BTreeMap<String, String>, Failure> {
    let mut given = BTreeMap::new();
    for text in values {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--set `{text}` has no `=`"), "write NAME=VALUE"))?;
        let asked = chosen.iter().any(|template| {
            let name = name.strip_prefix(&format!("{}.", template.name)).unwrap_or(name);
            template.parameters.iter().any(|parameter| parameter.name == name)
        });
        if !asked {
            return Err(
                policy::refusal::Refusal::new(&template::UNKNOWN_PARAMETER, format!("`{name}`")).into()
            );
        }
        if given.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!("--set {name} is given twice"), "give it once"));
        }
    }
    Ok(given)
}

/// Questions and answers.
struct Terminal<R, W> {
    answers: R,
    questions: W,
    lang: Lang,
}

impl<R: BufRead, W: Write> Terminal<R, W> {
    fn ask_parameter(&mut self, template: &Template, parameter: &Parameter) -> Result<String, Failure> {
        let question = format!("{}: {}", template.label(self.lang), parameter.label(self.lang));
        // A value that cannot stand there is told at once, not after all questions; the answers end at last.
        loop {
            let answer = self.ask(&question, &parameter.example)?;
            match parameter.check(&answer) {
                Ok(()) => return Ok(answer),
                Err(refusal) => writeln!(self.questions, "{}", refusal.detail).map_err(Failure::ours)?,
            }
        }
    }

    fn ask(&mut self, question: &str, example: &str) -> Result<String, Failure> {
        loop {
            write!(self.questions, "{question} (e.g. {example}): ")
                .and_then(|()| self.questions.flush())
                .map_err(Failure::ours)?;
            let mut answer = String::new();
            if self.answers.read_line(&mut answer).map_err(Failure::ours)? == 0 {
                return Err(Failure::usage("the answers ended", "answer every question, or give the flags"));
            }
            if !answer.trim().is_empty() {
                return Ok(answer.trim().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Language, Output};

    fn shelf() -> Shelf {
        Shelf {
            profiles: policy::Profiles::shipped(),
            output: Output { json: false, language: Language::En },
            parents: Vec::new(),
        }
    }

    fn args(templates: &[&str], values: &[&str]) -> NewArgs {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        NewArgs {
            templates: owned(templates),
            values: owned(values),
            assigner: None,
            target: None,
            uid: None,
            out: None,
        }
    }

    fn asked(args: &NewArgs, answers: &str) -> (Result<Policy, Failure>, String) {
        let mut questions = Vec::new();
        let mut terminal =
            Terminal { answers: answers.as_bytes(), questions: &mut questions, lang: Lang::ZhHant };
        let policy = compose(&shelf(), args, Some(&mut terminal));
        (policy, String::from_utf8(questions).unwrap())
    }

    #[test]
    fn a_terminal_is_asked_only_for_what_is_not_given() {
        let (policy, questions) = asked(
            &args(&["purpose", "count"], &["count=3"]),
            "\nScientificResearch\nhttps://a.example/id\nhttps://a.example/d\n",
        );
        let policy = policy.unwrap();
        assert!(questions.contains("用途") && !questions.contains("使用次數"), "{questions}");
        assert_eq!(
            (policy.assigner(), policy.target()),
            (Some("https://a.example/id"), Some("https://a.example/d"))
        );
        let (corrected, questions) =
            asked(&args(&["count"], &[]), "many\n-3\n3\nhttps://a.example/id\nhttps://a.example/d\n");
        assert!(corrected.is_ok() && questions.contains("not negative"), "{questions}");
        let answered_all = asked(
            &args(&[], &[]),
            "purpose,count\nScientificResearch\n3\nhttps://a.example/id\nhttps://a.example/d\n",
        );
        assert!(answered_all.0.unwrap().terms_equal(&policy));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let none: Option<&mut Terminal<&[u8], Vec<u8>>> = None;
        let failed = compose(&shelf(), &args(&["count"], &[]), none).unwrap_err();
        assert_eq!(failed.text, "--assigner is missing");
        let cases = [
            (args(&["cuont"], &[]), "policy/unknown-template"),
            (args(&["count"], &["colour=red"]), "policy/unknown-parameter"),
            (args(&["count"], &["count"]), "usage"),
            (args(&["count"], &["count=1", "count=2"]), "usage"),
            (args(&["count"], &[]), "usage"),
        ];
        for (args, code) in cases {
            assert_eq!(asked(&args, "").0.unwrap_err().code, code, "{args:?}");
        }
    }
}
