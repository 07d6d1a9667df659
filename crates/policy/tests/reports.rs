//! Compliance reports over worlds as the public test material writes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::Profiles;
use policy::report::{Report, Semantics, evaluate};

const PREFIXES: &str = "@prefix odrl: <http://www.w3.org/ns/odrl/2/> . @prefix ex: <http://example.org/> .
@prefix temp: <http://example.com/request/> . @prefix dct: <http://purl.org/dc/terms/> . @prefix dpv: <https://w3id.org/dpv#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> . @prefix report: <https://w3id.org/force/compliance-report#> .
@prefix sotw: <https://w3id.org/force/sotw#> .\n";

const REQUEST: &str = "<urn:request> a odrl:Request ; odrl:permission <urn:request:rule> .
<urn:request:rule> a odrl:Permission ; odrl:assignee ex:carol ; odrl:action odrl:read ; odrl:target ex:book .";

const WORLD: &str = "<urn:world> ex:includes temp:currentTime . temp:currentTime dct:issued \"2026-05-01T10:00:00.000Z\"^^xsd:dateTime .";

fn run(policy: &str, request: &str, world: &str, semantics: Semantics) -> Report {
    let text = |body: &str| if body.starts_with('{') { body.to_owned() } else { format!("{PREFIXES}{body}") };
    evaluate(&text(policy), &text(request), &text(world), semantics, &Profiles::shipped())
        .unwrap_or_else(|refused| panic!("{:?}: {}", refused.input, refused.problems))
}

fn active(report: &Report) -> Vec<bool> {
    report.rule_reports.iter().map(|rule| rule.activation_state == "Active").collect()
}

#[test]
fn premises_decide_activation() {
    let rule = |parts: &str| {
        format!(
            "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> a odrl:Permission {parts} ."
        )
    };
    let time = |operator: &str, at: &str| {
        rule(&format!(
            "; odrl:action odrl:read ; odrl:constraint <urn:c> . <urn:c> odrl:leftOperand odrl:dateTime ; odrl:operator odrl:{operator} ; odrl:rightOperand \"{at}\"^^xsd:dateTime"
        ))
    };
    let cases = [
        (rule(""), true, 0),
        (rule("; odrl:action odrl:use"), true, 1),
        (rule("; odrl:action odrl:sell"), false, 1),
        (rule("; odrl:action odrl:modify, odrl:read ; odrl:assignee ex:carol"), true, 2),
        (rule("; odrl:assignee ex:dave ; odrl:target ex:book"), false, 2),
        (time("gt", "2026-01-01T00:00:00Z"), true, 2),
        (time("lt", "2026-01-01T00:00:00Z"), false, 2),
        (time("eq", "2026-05-01T10:00:00Z"), true, 2),
        // Nobody stated a purpose: no information is unsatisfied.
        (
            rule(
                "; odrl:constraint <urn:c> . <urn:c> odrl:leftOperand odrl:purpose ; odrl:operator odrl:neq ; odrl:rightOperand dpv:Marketing",
            ),
            false,
            1,
        ),
    ];
    for (policy, expected, premises) in cases {
        let report = run(&policy, REQUEST, WORLD, Semantics::Force);
        assert_eq!(active(&report), [expected], "{policy}");
        assert_eq!(report.rule_reports[0].premises.len(), premises, "{policy}");
        assert_eq!(report.decision, if expected { "permit" } else { "deny" });
        assert_eq!(report.rule_reports[0].rule_request, "urn:request:rule");
    }
    let nobody = "<urn:policy> a odrl:Set ; odrl:prohibition <urn:rule> . <urn:rule> a odrl:Prohibition .";
    let report = run(nobody, REQUEST, WORLD, Semantics::Force);
    assert_eq!((active(&report), report.decision), (vec![true], "deny"));
    assert_eq!(report.rule_reports[0].kind, "ProhibitionReport");
}

#[test]
fn collections_take_their_members_from_the_world() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> .
        <urn:rule> odrl:action odrl:read ; odrl:target ex:shelf ; odrl:assignee ex:readers .
        ex:shelf a odrl:AssetCollection ; odrl:source ex:shelfId . ex:readers a odrl:PartyCollection ; odrl:source ex:readersId .";
    let world = |included: &str| {
        format!("<urn:world> ex:includes temp:currentTime{included} . temp:currentTime dct:issued \"2026-05-01T10:00:00Z\"^^xsd:dateTime .
            ex:book odrl:partOf ex:shelfId . ex:carol odrl:partOf ex:readersId .")
    };
    for (included, expected) in
        [(", ex:book, ex:carol", true), (", ex:book", false), (", ex:carol", false), ("", false)]
    {
        assert_eq!(
            active(&run(policy, REQUEST, &world(included), Semantics::Force)),
            [expected],
            "{included}"
        );
    }
}

#[test]
fn duties_block_as_the_semantics_say() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> odrl:action odrl:read ; odrl:target ex:book ; odrl:duty <urn:duty> . <urn:duty> a odrl:Duty ; odrl:action odrl:compensate .";
    let world = |state: &str| {
        format!("{WORLD} <urn:world> ex:includes <urn:earlier> . <urn:earlier> a report:PolicyReport ; report:ruleReport <urn:earlier:duty> .
            <urn:earlier:duty> a report:DutyReport ; report:rule <urn:duty> ; report:deonticState report:{state} .")
    };
    for (state, force, draft) in
        [("NonSet", true, false), ("Fulfilled", true, true), ("Violated", false, false)]
    {
        let by_force = run(policy, REQUEST, &world(state), Semantics::Force);
        assert_eq!(active(&by_force), [force], "{state}");
        assert_eq!(by_force.rule_reports[0].conditions[0].id, "urn:earlier:duty");
        assert_eq!(active(&run(policy, REQUEST, &world(state), Semantics::Draft)), [draft], "{state}");
    }
    let none = run(policy, REQUEST, WORLD, Semantics::Force);
    assert_eq!(
        (active(&none), none.rule_reports[0].conditions[0].performance_state),
        (vec![true], "Unknown")
    );
}

#[test]
fn newer_requests_and_plain_json() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> odrl:action odrl:read ; odrl:target ex:book ;
        odrl:constraint [ odrl:leftOperand odrl:deliveryChannel ; odrl:operator odrl:eq ; odrl:rightOperand <urn:channel> ],
          [ odrl:leftOperand odrl:purpose ; odrl:operator odrl:isA ; odrl:rightOperand dpv:ResearchAndDevelopment ] .";
    let request = "<urn:request> a sotw:EvaluationRequest ; sotw:requestedAction odrl:read ; sotw:requestingParty ex:carol ; sotw:requestedTarget ex:book ;
        sotw:requestParameter [ sotw:value <urn:channel> ; sotw:describesFeature sotw:DeliveryChannel ],
          [ sotw:value dpv:AcademicResearch ; sotw:describesFeature sotw:Purpose ] .";
    let world = "<urn:world> a sotw:SotW ; sotw:currentTime ex:now . ex:now dct:issued \"2026-05-01T10:00:00Z\"^^xsd:dateTime .";
    assert_eq!(active(&run(policy, request, world, Semantics::Force)), [true]);
    let request = r#"{"action":"read","target":"http://example.org/book","assignee":"urn:c","facts":{"purpose":"AcademicResearch"}}"#;
    let world = r#"{"now":"2026-05-01T10:00:00Z","facts":{"deliveryChannel":"urn:channel"}}"#;
    assert_eq!(active(&run(policy, request, world, Semantics::Draft)), [true]);
    let other = world.replace("urn:channel", "urn:other");
    assert_eq!(active(&run(policy, request, &other, Semantics::Draft)), [false]);
}

#[test]
fn json_ld_says_the_same_as_turtle() {
    const PURPOSES: [(&str, bool); 2] =
        [("https://w3id.org/dpv#AcademicResearch", true), ("https://w3id.org/dpv#Marketing", false)];
    let policy = r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Set","uid":"urn:policy","permission":[{"uid":"urn:rule","action":"read",
        "target":"http://example.org/book","assignee":{"@type":"PartyCollection","source":"http://example.org/readersId"},
        "constraint":[{"leftOperand":"purpose","operator":"isA","rightOperand":{"@id":"https://w3id.org/dpv#ResearchAndDevelopment"}},
          {"leftOperand":"dateTime","operator":"lt","rightOperand":{"@value":"2026-06-01T00:00:00Z","@type":"xsd:dateTime"}}]}]}"#;
    let world = r#"{"@context":{"ex":"http://example.org/","odrl":"http://www.w3.org/ns/odrl/2/","dct":"http://purl.org/dc/terms/","xsd":"http://www.w3.org/2001/XMLSchema#"},
        "@graph":[{"@id":"urn:world","ex:includes":[{"@id":"http://example.com/request/currentTime"},{"@id":"ex:carol"}]},
          {"@id":"http://example.com/request/currentTime","dct:issued":{"@value":"2026-05-01T10:00:00Z","@type":"xsd:dateTime"}},
          {"@id":"ex:carol","odrl:partOf":{"@id":"ex:readersId"}}]}"#;
    for (purpose, expected) in PURPOSES {
        let plain = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Request","uid":"urn:request","permission":[{{"uid":"urn:request:rule","action":"read",
              "target":"http://example.org/book","assignee":"http://example.org/carol","constraint":[{{"leftOperand":"purpose","operator":"eq","rightOperand":{{"@id":"{purpose}"}}}}]}}]}}"#
        );
        let newer = format!(
            r#"{{"@context":{{"sotw":"https://w3id.org/force/sotw#","odrl":"http://www.w3.org/ns/odrl/2/"}},"@id":"urn:request","@type":"sotw:EvaluationRequest",
              "sotw:requestedAction":{{"@id":"odrl:read"}},"sotw:requestingParty":{{"@id":"http://example.org/carol"}},"sotw:requestedTarget":{{"@id":"http://example.org/book"}},
              "sotw:requestParameter":{{"sotw:value":{{"@id":"{purpose}"}},"sotw:describesFeature":{{"@id":"sotw:Purpose"}}}}}}"#
        );
        for request in [plain, newer] {
            let report = run(policy, &request, world, Semantics::Force);
            assert_eq!(active(&report), [expected], "{request}");
        }
    }
    // Nothing is fetched: a context that is only named cannot be understood.
    let remote = world
        .replacen(r#""@context":{"#, r#""@context":["https://example.org/context.jsonld",{"#, 1)
        .replacen("},\n        \"@graph\"", "}],\n        \"@graph\"", 1);
    let refused =
        evaluate(policy, &format!("{PREFIXES}{REQUEST}"), &remote, Semantics::Force, &Profiles::shipped());
    assert_eq!(refused.unwrap_err().problems.first().code.code, "policy/syntax");
}

#[test]
fn prohibitions_and_obligations_have_their_states() {
    let policy = "<urn:policy> a odrl:Set ; odrl:prohibition <urn:no> ; odrl:obligation <urn:must> .
        <urn:no> a odrl:Prohibition ; odrl:action odrl:read ; odrl:target ex:book ; odrl:constraint <urn:c> .
        <urn:c> odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lt ; odrl:rightOperand \"2026-06-01T00:00:00Z\"^^xsd:dateTime .
        <urn:must> a odrl:Duty ; odrl:action odrl:compensate ; odrl:constraint <urn:c> .";
    let at = |month: u32| WORLD.replace("2026-05", &format!("2026-{month:02}"));
    let state = |world: &str, semantics| {
        let report = run(policy, REQUEST, world, semantics);
        let states = |id: &str| {
            let rule = report.rule_reports.iter().find(|rule| rule.rule == id).unwrap();
            let deontic = rule.duty.as_ref().map_or("", |duty| duty.deontic_state);
            (rule.kind, rule.activation_state, deontic)
        };
        (states("urn:no"), states("urn:must"), report.decision)
    };
    for semantics in [Semantics::Force, Semantics::Draft] {
        let (no, must, decision) = state(&at(5), semantics);
        assert_eq!((no.0, no.1), ("ProhibitionReport", "Active"));
        assert_eq!((must.0, must.1, must.2), ("DutyReport", "Active", "NonSet"));
        assert_eq!(decision, "deny");
        let (no, must, _) = state(&at(7), semantics);
        assert_eq!((no.1, must.1), ("Inactive", "Inactive"));
    }
    for (earlier, expected) in [("Fulfilled", "Fulfilled"), ("Violated", "Violated"), ("NonSet", "NonSet")] {
        let world = format!("{} <urn:world> ex:includes <urn:earlier> . <urn:earlier> a report:PolicyReport ; report:ruleReport <urn:earlier:duty> .
            <urn:earlier:duty> a report:DutyReport ; report:rule <urn:must> ; report:deonticState report:{earlier} .", at(5));
        assert_eq!(state(&world, Semantics::Force).1.2, expected, "{earlier}");
    }
}

#[test]
fn turtle_reads_back_and_nested_constraints_are_told() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> odrl:action odrl:write ; odrl:constraint <urn:or> .
        <urn:or> odrl:or <urn:a>, <urn:b> . <urn:a> odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lt ; odrl:rightOperand \"2026-01-01T00:00:00Z\"^^xsd:dateTime .
        <urn:b> odrl:leftOperand odrl:dateTime ; odrl:operator odrl:gt ; odrl:rightOperand \"2026-01-01T00:00:00Z\"^^xsd:dateTime .";
    let request = REQUEST.replace("odrl:read", "odrl:write");
    let report = run(policy, &request, WORLD, Semantics::Force);
    assert_eq!(active(&report), [true], "a deprecated action is the one that replaces it, on both sides");
    let logical = &report.rule_reports[0].premises[1];
    assert_eq!((logical.operator, logical.premises.len(), logical.satisfied), (Some("or"), 2, true));
    let turtle = report.to_turtle();
    let triples: Result<Vec<_>, _> = oxttl::TurtleParser::new().for_slice(&turtle).collect();
    assert!(triples.unwrap().len() > 20, "{turtle}");
    assert!(turtle.contains("report:activationState report:Active"));
    assert_eq!(
        run(policy, &request, WORLD, Semantics::Force).to_turtle(),
        turtle,
        "same inputs, same report"
    );
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["ruleReports"][0]["activationState"], "Active");
}

#[test]
fn taxonomies_and_foreign_operands_can_be_loaded() {
    let profiles = Profiles::shipped()
        .with_file(r#"{"format":1,"profile":"http://w3id.org/odrl/axis","version":"1","operands":[
            {"iri":"http://w3id.org/odrl/axis#width","type":"number","operators":["lteq","gteq"]}]}"#)
        .unwrap()
        .with_taxonomy("@prefix skos: <http://www.w3.org/2004/02/skos/core#> . <urn:alps> skos:broader <urn:europe> ; skos:prefLabel \"Alps\"@en .", "")
        .unwrap();
    let policy = format!(
        "{PREFIXES}<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> odrl:action odrl:read ; odrl:constraint
          [ odrl:leftOperand <http://w3id.org/odrl/axis#width> ; odrl:operator odrl:lteq ; odrl:rightOperand 800 ],
          [ odrl:leftOperand odrl:spatial ; odrl:operator odrl:isPartOf ; odrl:rightOperand <urn:europe> ] ."
    );
    let world = r#"{"facts":{"http://w3id.org/odrl/axis#width":600,"spatial":"urn:alps"}}"#;
    let report =
        evaluate(&policy, &format!("{PREFIXES}{REQUEST}"), world, Semantics::Force, &profiles).unwrap();
    assert_eq!(active(&report), [true]);
    let refused =
        evaluate(&policy, &format!("{PREFIXES}{REQUEST}"), world, Semantics::Force, &Profiles::shipped());
    assert_eq!(refused.unwrap_err().problems.first().code.code, "policy/unknown-operand");
}

#[test]
fn worlds_and_requests_keep_units_and_all_values() {
    let rule = |constraint: &str| {
        format!(
            "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> a odrl:Permission ; odrl:action odrl:read ; odrl:target ex:book ; odrl:constraint [ {constraint} ] ."
        )
    };
    let amount = rule(
        "odrl:leftOperand odrl:payAmount ; odrl:operator odrl:gteq ; odrl:rightOperand 5 ; odrl:unit ex:EUR",
    );
    let dots = rule(
        "odrl:leftOperand odrl:resolution ; odrl:operator odrl:lteq ; odrl:rightOperand 1200 ; odrl:unit ex:dpi",
    );
    let any =
        rule("odrl:leftOperand odrl:purpose ; odrl:operator odrl:isAnyOf ; odrl:rightOperand ex:p1, ex:p2");
    let all =
        rule("odrl:leftOperand odrl:purpose ; odrl:operator odrl:isAllOf ; odrl:rightOperand ex:p1, ex:p2");
    let elapsed = rule(
        "odrl:leftOperand odrl:elapsedTime ; odrl:operator odrl:lteq ; odrl:rightOperand \"P90D\"^^xsd:duration",
    );
    let fact = |body: &str| {
        format!(
            "<urn:world> ex:includes temp:currentTime, ex:f, ex:g . temp:currentTime dct:issued \"2026-05-01T10:00:00Z\"^^xsd:dateTime . {body}"
        )
    };
    let pay =
        |unit: &str| fact(&format!("ex:f odrl:leftOperand odrl:payAmount ; odrl:rightOperand 7{unit} ."));
    let purposes =
        |list: &str| fact(&format!("ex:f odrl:leftOperand odrl:purpose ; odrl:rightOperand {list} ."));
    let cases = [
        (&amount, pay(" ; odrl:unit ex:EUR"), true),
        (&amount, pay(" ; odrl:unit ex:USD"), false),
        (&amount, pay(""), false),
        (&amount, r#"{"now":"2026-05-01T10:00:00Z","facts":{"payAmount":{"value":7,"unit":"http://example.org/EUR"}}}"#.to_owned(), true),
        (&amount, r#"{"now":"2026-05-01T10:00:00Z","facts":{"payAmount":7}}"#.to_owned(), false),
        (&dots, fact("ex:f odrl:leftOperand odrl:resolution ; odrl:rightOperand 600 ; odrl:unit ex:dpi ."), true),
        (&any, purposes("ex:p1, ex:p2"), true),
        // A second purpose that is not listed is not hidden by its place.
        (&any, purposes("ex:p2, ex:p9"), false),
        (&any, purposes("ex:p9, ex:p2"), false),
        (&all, purposes("ex:p1, ex:p2"), true),
        (&all, purposes("ex:p1"), false),
        (&all, fact("ex:f odrl:leftOperand odrl:purpose ; odrl:rightOperand ex:p1 . ex:g odrl:leftOperand odrl:purpose ; odrl:rightOperand ex:p2 ."), true),
        // A month has no one length: not comparable, and no error.
        (&elapsed, fact("ex:f odrl:leftOperand odrl:elapsedTime ; odrl:rightOperand \"P1M\"^^xsd:duration ."), false),
        (&elapsed, fact("ex:f odrl:leftOperand odrl:elapsedTime ; odrl:rightOperand \"P30D\"^^xsd:duration ."), true),
    ];
    for (policy, world, expected) in cases {
        assert_eq!(active(&run(policy, REQUEST, &world, Semantics::Force)), [expected], "{policy}\n{world}");
    }
    let requested = "<urn:request> a odrl:Request ; odrl:permission <urn:request:rule> . <urn:request:rule> a odrl:Permission ; odrl:assignee ex:carol ; odrl:action odrl:read ; odrl:target ex:book ;
        odrl:constraint [ odrl:leftOperand odrl:payAmount ; odrl:operator odrl:eq ; odrl:rightOperand 7 ; odrl:unit ex:EUR ] .";
    assert_eq!(active(&run(&amount, requested, WORLD, Semantics::Force)), [true]);
    let twice = fact(
        "ex:f odrl:leftOperand odrl:count ; odrl:rightOperand 1 . ex:g odrl:leftOperand odrl:count ; odrl:rightOperand 2 .",
    );
    let text = |body: &str| format!("{PREFIXES}{body}");
    let refused =
        evaluate(&text(&amount), &text(REQUEST), &text(&twice), Semantics::Force, &Profiles::shipped());
    assert!(refused.unwrap_err().problems.to_string().contains("1 and 2"));
}

#[test]
fn the_draft_demands_whole_rules_in_force() {
    let policy = |kind: &str, more: &str, rule: &str| {
        format!(
            "<urn:policy> a odrl:{kind} {more} ; odrl:permission <urn:rule> . <urn:rule> a odrl:Permission {rule} ."
        )
    };
    let whole = "; odrl:action odrl:read ; odrl:target ex:book ; odrl:assigner ex:alice";
    let inactive_duty = "; odrl:action odrl:read ; odrl:target ex:book ; odrl:duty [ odrl:action odrl:compensate ; odrl:constraint [ odrl:leftOperand odrl:dateTime ; odrl:operator odrl:gt ; odrl:rightOperand \"2030-01-01T00:00:00Z\"^^xsd:dateTime ] ]";
    let open_duty =
        "; odrl:action odrl:read ; odrl:target ex:book ; odrl:duty [ odrl:action odrl:compensate ]";
    for (text, draft, force) in [
        (policy("Set", "", whole), "permit", "permit"),
        (policy("Offer", "", whole), "deny", "permit"),
        (policy("Set", "; dct:isReplacedBy <urn:newer>", whole), "deny", "permit"),
        (policy("Set", "", "; odrl:action odrl:read"), "deny", "permit"),
        (policy("Set", "", "; odrl:target ex:book"), "deny", "permit"),
        (policy("Set", "", inactive_duty), "permit", "permit"),
        (policy("Set", "", open_duty), "deny", "permit"),
    ] {
        assert_eq!(run(&text, REQUEST, WORLD, Semantics::Draft).decision, draft, "{text}");
        assert_eq!(run(&text, REQUEST, WORLD, Semantics::Force).decision, force, "{text}");
    }
    // Nobody has said that the book is not on the shelf.
    let forbidden = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> ; odrl:prohibition <urn:no> . <urn:rule> odrl:action odrl:read ; odrl:target ex:book .
        <urn:no> odrl:action odrl:read ; odrl:target ex:shelf ; odrl:remedy <urn:remedy> . <urn:remedy> odrl:action odrl:compensate . ex:shelf a odrl:AssetCollection ; odrl:source ex:shelfId .";
    let report = run(forbidden, REQUEST, WORLD, Semantics::Draft);
    assert_eq!(
        (report.decision, run(forbidden, REQUEST, WORLD, Semantics::Force).decision),
        ("deny", "permit")
    );
    let no = report.rule_reports.iter().find(|rule| rule.rule == "urn:no").unwrap();
    assert_eq!((no.conditions.len(), no.conditions[0].rule.as_str()), (1, "urn:remedy"));
}

#[test]
fn the_draft_reports_states_consequences_and_premises() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:may> ; odrl:obligation <urn:must> . <urn:may> odrl:action odrl:read ; odrl:target ex:book .
        <urn:must> odrl:action odrl:delete ; odrl:target ex:book ; odrl:assignee ex:carol ; odrl:consequence <urn:then> . <urn:then> odrl:action odrl:inform .";
    let earlier = format!("{WORLD} <urn:world> ex:includes <urn:e> . <urn:e> a report:PolicyReport ; report:ruleReport <urn:e:1> .
        <urn:e:1> a report:PermissionReport ; report:rule <urn:may> ; report:performanceState report:Performed .");
    let report = run(policy, REQUEST, &earlier, Semantics::Draft);
    let state = |iri: &str| {
        let rule = report.rule_reports.iter().find(|rule| rule.rule == iri).unwrap();
        (
            rule.duty.as_ref().unwrap().performance_state,
            rule.duty.as_ref().unwrap().deontic_state,
            rule.premises.len(),
            rule.conditions.len(),
        )
    };
    assert_eq!(state("urn:may"), ("Performed", "Fulfilled", 2, 0));
    assert_eq!(state("urn:must"), ("Unknown", "NonSet", 3, 1));
    assert!(report.to_turtle().contains("report:conditionReport"));
    let force = run(policy, REQUEST, &earlier, Semantics::Force);
    assert!(force.rule_reports.iter().all(|rule| (rule.rule == "urn:must") == rule.duty.is_some()));
}

#[test]
fn the_context_of_odrl_is_known_without_fetching_it() {
    let policy = "<urn:policy> a odrl:Set ; odrl:permission <urn:rule> . <urn:rule> a odrl:Permission ; odrl:action odrl:read ; odrl:target ex:book ;
        odrl:constraint [ odrl:leftOperand odrl:purpose ; odrl:operator odrl:eq ; odrl:rightOperand dpv:AcademicResearch ] .";
    let world = |context: &str| {
        format!(
            r#"{{"@context":["{context}",{{"ex":"http://example.org/"}}],"@graph":[
            {{"@id":"urn:world","ex:includes":[{{"@id":"http://example.com/request/currentTime"}},{{"@id":"urn:f"}}]}},
            {{"@id":"http://example.com/request/currentTime","dct:issued":"2026-05-01T10:00:00Z"}},
            {{"uid":"urn:f","leftOperand":"purpose","rightOperand":{{"@id":"dpv:AcademicResearch"}}}}]}}"#
        )
    };
    for address in ["http://www.w3.org/ns/odrl.jsonld", "https://www.w3.org/ns/odrl.jsonld"] {
        assert_eq!(run(policy, REQUEST, &world(address), Semantics::Draft).decision, "permit");
    }
    let text = |body: &str| format!("{PREFIXES}{body}");
    let other = world("https://contexts.example/other.jsonld");
    let refused = evaluate(&text(policy), &text(REQUEST), &other, Semantics::Draft, &Profiles::shipped());
    assert!(refused.is_err(), "nothing is fetched");
}
