//! The story: published, found, agreed, pulled, used, and refused wherever it must be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_plane::UnixMillis;
use data_plane::Digest;
use proto::admin;

use super::data_space::{AUTHORITY, DataSpace, GUANGZHOU, HONG_KONG, MACAO, until};
use super::evidence::{
    agree, appears, clauses, completed_at_provider, entry, files, flip_one_bit, logged, more_uses, now, pull,
    records, refused, sealed_files, signers, teach, text, title,
};
use super::narrator::{Narrator, Step, Stopped};
use super::processes::{Program, Told, Trouble, ensure, shell};
use super::shipped::{HOURLY, HOURLY_TURTLE, SNOW_TURTLE, UNTIL, YEARS, longest_year, prepare, snow_days};
use super::stranger;
use crate::cli::Failure;

/// The dated offer stands open for this long at least: publishing, negotiating, pulling and using take part of it.
const SHORTEST_DATE: Duration = Duration::from_secs(4);
/// How many times as long as the first walk from publication to use took, so that a slow machine is in time, too.
const TIMES_AS_LONG: u32 = 4;

/// Tells it all.
pub async fn tell(narrator: &Narrator, program: &Program) -> Result<(), Failure> {
    narrator.note(
        "Real processes on [::1], public-domain observations of NOAA (SOURCE.md tells more), nothing else.",
    );
    let stopped = told(narrator, program).await.is_err();
    narrator.conclude(stopped)
}

async fn told(narrator: &Narrator, program: &Program) -> Result<(), Stopped> {
    let step = Step {
        id: "data-space",
        title: "An authority founds a data space; three campuses make their keys and enrol",
        concerned: &[],
    };
    let space = narrator
        .permit(step, async {
            let space = DataSpace::found(narrator, program).await?;
            prepare(program.folder())?;
            let campuses = [&space.guangzhou, &space.hong_kong, &space.macao];
            for campus in campuses {
                narrator.shows(&format!(
                    "{:<10} {:<32} {:<14} process {}",
                    campus.place.title,
                    campus.place.uri(),
                    campus.address,
                    campus.server.pid()
                ));
            }
            let reason = "each campus has a certificate with its one URI and a signed statement of where it is registered";
            Ok((space, reason.to_owned()))
        })
        .await?;
    let story = Story { narrator, space: &space };

    let before = narrator.busy();
    story.publish().await?;
    story.find().await?;
    let offer = story.read_offer().await?;
    let agreement = story.negotiate().await?;
    story.both_signatures(&agreement).await?;
    story.pull(&agreement).await?;
    story.first_use(&agreement).await?;
    let date = story.dated_offer(narrator.busy().saturating_sub(before)).await?;

    story.sealed(&agreement).await?;
    story.wrong_purpose(&agreement).await;
    story.second_use(&agreement).await?;
    story.count_spent(&agreement).await;
    story.unknown_operand(program.folder()).await;
    story.altered_terms(program.folder(), &offer).await;
    story.other_jurisdiction().await;
    let (copy, files) = story.folder_pulled().await?;
    story.tampered(&copy, &files).await;
    story.revoked(&copy).await;
    story.deleted(&copy).await?;
    story.stranger().await;
    story.date_passed(&date).await;
    story.withdrawn().await;

    let step = Step { id: "stopped", title: "Every process is asked to end, and does", concerned: &[] };
    narrator
        .permit(step, async {
            Ok(((), space.stop().await.map(|()| "all drained and closed their state".to_owned())?))
        })
        .await
}

/// An agreement with the instant after which it permits nothing more.
struct Dated {
    agreement: String,
    until: UnixMillis,
}

struct Story<'a> {
    narrator: &'a Narrator,
    space: &'a DataSpace<'a>,
}

impl Story<'_> {
    async fn publish(&self) -> Result<(), Stopped> {
        let (narrator, hong_kong) = (self.narrator, &self.space.hong_kong);
        let step = Step {
            id: "publish",
            title: "Hong Kong publishes hourly weather normals, described in three scripts, with its policy",
            concerned: &[&hong_kong.server],
        };
        let body = async {
            let source = "file:observations/hourly-normals.csv";
            let arguments = ["dataset", "publish", "hourly-normals.ttl", "--source", source];
            let published: admin::PublishedDataset = hong_kong.ask(narrator, &arguments).await?;
            ensure(published.bytes == HOURLY.len() as u64, || {
                format!("{} bytes were read", published.bytes)
            })?;
            for language in ["en", "zh-Hant", "zh-Hans"] {
                let entry = entry(hong_kong, &published.dataset, language).await?;
                narrator.shows(title(&entry, language)?);
                narrator.clauses(clauses(&entry)?);
            }
            Ok((
                (),
                format!(
                    "signed as number {} of Hong Kong's log; manifest {}",
                    published.seq, published.manifest_digest
                ),
            ))
        };
        narrator.permit(step, body).await
    }

    async fn find(&self) -> Result<(), Stopped> {
        let (narrator, macao, guangzhou) = (self.narrator, &self.space.macao, &self.space.guangzhou);
        let step = Step {
            id: "find",
            title: "Macao searches in Chinese, in either script, and finds it",
            concerned: &[&macao.server, &self.space.hong_kong.server],
        };
        let body = async {
            let dataset = HONG_KONG.dataset("hourly-normals");
            let search =
                ["catalogue", "search", "天氣", "--purpose", "dpv:AcademicResearch", "--language", "zh-Hant"];
            narrator.command(macao.place.name, &shell(&search));
            let hit = appears(macao, &search, &dataset).await?;
            narrator.shows(&format!("{}\n{}\n{}", hit.title, hit.description, hit.publisher));
            let simplified = ["catalogue", "search", "天气", "--language", "zh-Hans"];
            narrator.command(macao.place.name, &shell(&simplified));
            let hit = appears(macao, &simplified, &dataset).await?;
            narrator.shows(&hit.title);
            appears(guangzhou, &["catalogue", "search", "weather"], &dataset).await?;
            Ok((
                (),
                "replicated to both peers, each of which verified signature and place in the log".to_owned(),
            ))
        };
        narrator.permit(step, body).await
    }

    async fn read_offer(&self) -> Result<admin::CatalogueOffer, Stopped> {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "read-offer",
            title: "Macao reads what it takes to get it, in 繁體中文",
            concerned: &[&macao.server],
        };
        let body = async {
            let dataset = HONG_KONG.dataset("hourly-normals");
            let arguments = ["catalogue", "show", &dataset, "--language", "zh-Hant"];
            let shown: admin::CatalogueEntry = macao.ask(narrator, &arguments).await?;
            narrator.clauses(clauses(&shown)?);
            // Hong Kong may write to its log between two looks: the two are compared once both stand at one state of it.
            let shown = until("both show the same state of Hong Kong's log", async || {
                let at_provider = entry(&self.space.hong_kong, &dataset, "zh-Hant").await?;
                let here = entry(macao, &dataset, "zh-Hant").await?;
                let same_state = (here.epoch, here.seq, &here.expires)
                    == (at_provider.epoch, at_provider.seq, &at_provider.expires);
                Ok(same_state.then_some((here, at_provider)))
            })
            .await
            .and_then(|(here, at_provider)| {
                ensure(here == at_provider, || "the entry differs from Hong Kong's".to_owned())?;
                Ok(here)
            })?;
            let [offer] = shown.offers.as_slice() else {
                return Err(Trouble::failed("one offer was expected"));
            };
            Ok((
                offer.clone(),
                format!("the very entry that Hong Kong signed, envelope {}", shown.envelope_hash),
            ))
        };
        narrator.permit(step, body).await
    }

    async fn negotiate(&self) -> Result<String, Stopped> {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "negotiate",
            title: "Macao asks for an agreement on exactly these terms",
            concerned: &[&macao.server, &self.space.hong_kong.server],
        };
        let body = async {
            let agreement = agree(narrator, macao, &HONG_KONG.dataset("hourly-normals")).await?;
            let reason =
                format!("Hong Kong's policy permits Macao (registered in MO): agreement {agreement}");
            Ok((agreement, reason))
        };
        narrator.permit(step, body).await
    }

    async fn both_signatures(&self, agreement: &str) -> Result<(), Stopped> {
        let (narrator, macao, hong_kong) = (self.narrator, &self.space.macao, &self.space.hong_kong);
        let step = Step {
            id: "both-signatures",
            title: "Both hold the same document, signed by both",
            concerned: &[&macao.server, &hong_kong.server],
        };
        let body = async {
            let arguments = ["agreement", "show", agreement];
            let ours: admin::Agreement = macao.ask(narrator, &arguments).await?;
            let theirs: admin::Agreement = hong_kong.ask(narrator, &arguments).await?;
            ensure(ours.document == theirs.document && ours.hash == theirs.hash, || {
                "the two differ".to_owned()
            })?;
            let signers = signers(&ours.document, &[macao, hong_kong])?;
            let expected = BTreeSet::from([HONG_KONG.uri(), MACAO.uri()]);
            ensure(signers == expected, || format!("signed by {signers:?}"))?;
            for signer in &signers {
                narrator
                    .shows(&format!("signature of {signer} verifies with the certificate that it enrolled"));
            }
            Ok(((), format!("one document, two signatures, {}", ours.hash)))
        };
        narrator.permit(step, body).await
    }

    async fn pull(&self, agreement: &str) -> Result<(), Stopped> {
        let (narrator, macao, hong_kong) = (self.narrator, &self.space.macao, &self.space.hong_kong);
        let step = Step {
            id: "pull",
            title: "Macao pulls the data; Hong Kong decides again at every window",
            concerned: &[&macao.server, &hong_kong.server],
        };
        let body = async {
            let here = pull(narrator, macao, agreement).await?;
            let there = completed_at_provider(hong_kong, agreement).await?;
            ensure(here.manifest_digest == there.manifest_digest, || "the manifests differ".to_owned())?;
            ensure(here.bytes_done == HOURLY.len() as u64, || format!("{} bytes arrived", here.bytes_done))?;
            let holding: admin::Holding = macao.look(&["holdings", "show", agreement]).await?;
            let original = Digest::of(HOURLY).to_string();
            let held: Vec<&str> = holding.objects.iter().map(|object| object.digest.as_str()).collect();
            ensure(held == [original.as_str()], || format!("holds {held:?}, the file is {original}"))?;
            narrator.shows(&format!(
                "manifest at Hong Kong  {}\nmanifest at Macao      {}",
                there.manifest_digest, here.manifest_digest
            ));
            narrator.shows(&format!(
                "SHA-256 of the file    {original}\nSHA-256 as received    {}",
                held.concat()
            ));
            let receipts = records(hong_kong, "transfer-receipt", agreement).await?;
            ensure(!receipts.is_empty(), || "Hong Kong's ledger has no receipt".to_owned())?;
            Ok((
                (),
                format!(
                    "{} bytes, digests equal on both sides, receipt in Hong Kong's ledger",
                    here.bytes_done
                ),
            ))
        };
        narrator.permit(step, body).await
    }

    async fn first_use(&self, agreement: &str) -> Result<(), Stopped> {
        let step = Step {
            id: "use",
            title: "A researcher in Macao uses it for academic research",
            concerned: &[&self.space.macao.server],
        };
        self.narrator.permit(step, self.research(agreement, 1)).await
    }

    async fn second_use(&self, agreement: &str) -> Result<(), Stopped> {
        let step = Step {
            id: "use-again",
            title: "The refusal cost nothing: the second use is still there",
            concerned: &[&self.space.macao.server],
        };
        self.narrator.permit(step, self.research(agreement, 0)).await
    }

    async fn research(&self, agreement: &str, left: i64) -> Told<((), String)> {
        let macao = &self.space.macao;
        let arguments = ["use", agreement, "--action", "read", "--purpose", "dpv:AcademicResearch"];
        let bytes = macao.run(self.narrator, &arguments).await?;
        ensure(bytes == HOURLY, || format!("{} bytes that are not the original", bytes.len()))?;
        let holding: admin::Holding = macao.look(&["holdings", "show", agreement]).await?;
        ensure(holding.uses_left == left, || format!("{} uses are left", holding.uses_left))?;
        let reason =
            "academic research is research: decision, counter and record were durable before the first byte";
        Ok(((), format!("{reason}; {} bytes equal the original; uses left: {left}", bytes.len())))
    }

    async fn sealed(&self, agreement: &str) -> Result<(), Stopped> {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "sealed",
            title: "On Macao's disk the data lies only sealed",
            concerned: &[&macao.server],
        };
        let body = async {
            let files = files(&macao.data())?;
            // Any line in the middle will do; the first is only the heading.
            let line = HOURLY.split(|byte| *byte == b'\n').nth(1000).unwrap_or_default();
            for file in &files {
                let bytes = fs::read(file)?;
                let open = bytes.windows(line.len()).any(|window| window == line);
                ensure(!open, || format!("a line of the data stands in {}", file.display()))?;
            }
            let holding: admin::Holding = macao.ask(narrator, &["holdings", "show", agreement]).await?;
            ensure(holding.state == "sealed", || format!("the copy is {}", holding.state))?;
            for duty in &holding.duties {
                narrator.shows(&format!("duty: {} until {} ({})", duty.action, duty.deadline, duty.state));
            }
            Ok(((), format!("no line of it in any of the {} files of the data folder", files.len())))
        };
        narrator.permit(step, body).await
    }

    async fn wrong_purpose(&self, agreement: &str) {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "wrong-purpose",
            title: "Somebody in Macao wants it for marketing",
            concerned: &[&macao.server],
        };
        let body = async {
            let wanted = ["use", agreement, "--action", "read", "--purpose", "dpv:Marketing"];
            let explain: Vec<&str> =
                wanted.into_iter().chain(["--explain", "--language", "zh-Hant"]).collect();
            let explanation: admin::Explanation = macao.ask(narrator, &explain).await?;
            narrator.shows(&explanation.text);
            narrator.shows(&explanation.details.join("\n"));
            refused(macao.run(narrator, &wanted).await)
        };
        narrator.refuse(step, &["policy/purpose-not-permitted"], body).await;
    }

    async fn count_spent(&self, agreement: &str) {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step =
            Step { id: "count-spent", title: "A third use was not agreed", concerned: &[&macao.server] };
        let body = async {
            let arguments = ["use", agreement, "--action", "read", "--purpose", "dpv:AcademicResearch"];
            refused(macao.run(narrator, &arguments).await)
        };
        narrator.refuse(step, &["policy/count-spent"], body).await;
    }

    async fn unknown_operand(&self, folder: &Path) {
        let (narrator, hong_kong) = (self.narrator, &self.space.hong_kong);
        let step = Step {
            id: "unknown-operand",
            title: "Hong Kong tries to publish a policy that nobody could enforce",
            concerned: &[&hong_kong.server],
        };
        let body = async {
            let strange =
                HOURLY_TURTLE.replace("odrl:leftOperand odrl:count", "odrl:leftOperand fl:phaseOfTheMoon");
            fs::write(folder.join("full-moon.ttl"), strange)?;
            let source = "file:observations/hourly-normals.csv";
            refused(
                hong_kong.run(narrator, &["dataset", "publish", "full-moon.ttl", "--source", source]).await,
            )
        };
        narrator.refuse(step, &["policy/unknown-operand"], body).await;
    }

    async fn altered_terms(&self, folder: &Path, offer: &admin::CatalogueOffer) {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "altered-terms",
            title: "Macao asks for a hundred more uses: a counter-offer, never an acceptance",
            concerned: &[&macao.server, &self.space.hong_kong.server],
        };
        let body = async {
            fs::write(folder.join("more-uses.json"), more_uses(&offer.text)?)?;
            let dataset = HONG_KONG.dataset("hourly-normals");
            refused(macao.run(narrator, &["negotiate", &dataset, "--terms", "more-uses.json"]).await)
        };
        narrator.refuse(step, &["negotiation/terms-altered"], body).await;
    }

    async fn other_jurisdiction(&self) {
        let (narrator, guangzhou) = (self.narrator, &self.space.guangzhou);
        let step = Step {
            id: "other-jurisdiction",
            title: "Guangzhou asks for the same data, but the offer is for Hong Kong and Macao",
            concerned: &[&guangzhou.server, &self.space.hong_kong.server],
        };
        let body = async {
            let dataset = HONG_KONG.dataset("hourly-normals");
            refused(guangzhou.run(narrator, &["negotiate", &dataset]).await)
        };
        narrator.refuse(step, &["policy/place-not-permitted"], body).await;
    }

    async fn dated_offer(&self, walk: Duration) -> Result<Dated, Stopped> {
        let (narrator, macao, hong_kong) = (self.narrator, &self.space.macao, &self.space.hong_kong);
        let step = Step {
            id: "dated-offer",
            title: "Macao shows its snow days for some seconds; Hong Kong agrees, pulls and uses in time",
            concerned: &[&macao.server, &hong_kong.server],
        };
        let body = async {
            let open = SHORTEST_DATE.max(walk * TIMES_AS_LONG);
            let until = now().plus_millis(i64::try_from(open.as_millis()).unwrap_or(i64::MAX));
            let turtle = SNOW_TURTLE.replace(UNTIL, &until.to_string());
            fs::write(self.space.program.folder().join("snow-days.ttl"), turtle)?;
            let arguments =
                ["dataset", "publish", "snow-days.ttl", "--source", "file:observations/snow-days.csv"];
            let published: admin::PublishedDataset = macao.ask(narrator, &arguments).await?;
            narrator.clauses(&published.clauses);
            appears(hong_kong, &["catalogue", "search", "降雪"], &published.dataset).await?;
            let agreement = agree(narrator, hong_kong, &published.dataset).await?;
            pull(narrator, hong_kong, &agreement).await?;
            let bytes = hong_kong.run(narrator, &["use", &agreement]).await?;
            ensure(bytes == snow_days().as_bytes(), || {
                format!("{} bytes that are not the original", bytes.len())
            })?;
            Ok((
                Dated { agreement, until },
                format!("{} bytes, equal to the original, before {until}", bytes.len()),
            ))
        };
        narrator.permit(step, body).await
    }

    async fn date_passed(&self, dated: &Dated) {
        let (narrator, hong_kong) = (self.narrator, &self.space.hong_kong);
        let step = Step {
            id: "date-passed",
            title: "The date of the snow days passes; Hong Kong tries again",
            concerned: &[&hong_kong.server],
        };
        let body = async {
            // The one thing that can only be slept for.
            let left = dated.until.millis_since(now()).saturating_add(1);
            tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
            refused(hong_kong.run(narrator, &["use", &dated.agreement]).await)
        };
        narrator.refuse(step, &["policy/outside-time"], body).await;
    }

    async fn folder_pulled(&self) -> Result<(String, Vec<PathBuf>), Stopped> {
        let (narrator, macao, guangzhou) = (self.narrator, &self.space.macao, &self.space.guangzhou);
        let step = Step {
            id: "folder",
            title: "Guangzhou publishes a folder for non-commercial purposes; Macao takes it for teaching",
            concerned: &[&macao.server, &guangzhou.server],
        };
        let body = async {
            let source = "directory:observations/daily";
            let arguments = ["dataset", "publish", "daily-weather.ttl", "--source", source];
            let published: admin::PublishedDataset = guangzhou.ask(narrator, &arguments).await?;
            narrator.clauses(&published.clauses);
            appears(macao, &["catalogue", "search", "降水"], &published.dataset).await?;
            let before = sealed_files(macao)?;
            let agreement = agree(narrator, macao, &published.dataset).await?;
            let pulled = pull(narrator, macao, &agreement).await?;
            let (name, text) = longest_year();
            let bytes = teach(narrator, macao, &agreement, &name).await?;
            ensure(bytes == text.as_bytes(), || format!("{} bytes that are not the original", bytes.len()))?;
            let files: Vec<PathBuf> = sealed_files(macao)?.difference(&before).cloned().collect();
            ensure(files.len() == YEARS.len(), || format!("{} sealed files", files.len()))?;
            let reason = format!(
                "{} files, {} bytes; {name} equals the original",
                pulled.objects_done, pulled.bytes_done
            );
            Ok(((agreement, files), reason))
        };
        narrator.permit(step, body).await
    }

    async fn tampered(&self, agreement: &str, files: &[PathBuf]) {
        let (narrator, macao) = (self.narrator, &self.space.macao);
        let step = Step {
            id: "tampered-copy",
            title: "Somebody flips one bit of the sealed file on Macao's disk",
            concerned: &[&macao.server],
        };
        let body = async {
            let (name, text) = longest_year();
            let longest = files.iter().max_by_key(|file| fs::metadata(file).map_or(0, |found| found.len()));
            let file = longest.ok_or_else(|| Trouble::failed("there is no sealed file"))?;
            flip_one_bit(file)?;
            narrator.shows(&format!("one bit of {} is flipped", file.display()));
            let answer = refused(teach(narrator, macao, agreement, &name).await);
            flip_one_bit(file)?;
            let restored = teach(narrator, macao, agreement, &name).await?;
            ensure(restored == text.as_bytes(), || "the restored file does not read".to_owned())?;
            narrator.shows("flipped back, the same use is granted");
            answer
        };
        narrator.refuse(step, &["use/copy-altered"], body).await;
    }

    async fn revoked(&self, agreement: &str) {
        let (narrator, macao, guangzhou) = (self.narrator, &self.space.macao, &self.space.guangzhou);
        let step = Step {
            id: "revoked",
            title: "Guangzhou revokes the agreement; Macao tries to use its copy",
            concerned: &[&macao.server, &guangzhou.server],
        };
        let body = async {
            let arguments = ["agreement", "revoke", agreement, "--reason", "errors found in the series"];
            let revoked: admin::Agreement = guangzhou.ask(narrator, &arguments).await?;
            ensure(revoked.status == "revoked", || format!("the agreement is {}", revoked.status))?;
            until("Macao hears of it", async || {
                let known: admin::Agreement = macao.look(&["agreement", "show", agreement]).await?;
                Ok((known.status == "revoked").then_some(()))
            })
            .await?;
            refused(teach(narrator, macao, agreement, &longest_year().0).await)
        };
        // The duty to delete follows within seconds; it may be first on a slow machine.
        narrator.refuse(step, &["transfer/agreement-revoked", "use/destroyed"], body).await;
    }

    async fn deleted(&self, agreement: &str) -> Result<(), Stopped> {
        let (narrator, macao, guangzhou) = (self.narrator, &self.space.macao, &self.space.guangzhou);
        let step = Step {
            id: "deleted",
            title: "The duty to delete runs at Macao, and Guangzhou gets the proof",
            concerned: &[&macao.server, &guangzhou.server],
        };
        let body = async {
            let holding = until("the copy is destroyed", async || {
                let holding: admin::Holding = macao.look(&["holdings", "show", agreement]).await?;
                let done =
                    holding.state == "destroyed" && holding.duties.iter().all(|duty| duty.state == "done");
                Ok(done.then_some(holding))
            })
            .await?;
            ensure(!holding.duties.is_empty(), || "no duty was owed".to_owned())?;
            for duty in &holding.duties {
                narrator.shows(&format!(
                    "duty: {} until {}: {}; {}",
                    duty.action, duty.deadline, duty.state, duty.evidence
                ));
            }
            let proof = until("Guangzhou has the proof", async || {
                let notices = records(guangzhou, "notice-received", agreement).await?;
                Ok(notices.into_iter().find(|notice| notice.contains("agreement/deleted")))
            })
            .await?;
            narrator.shows(&format!("in Guangzhou's ledger: {proof}"));
            Ok(((), "keys destroyed, files gone, signed notice in the provider's ledger".to_owned()))
        };
        narrator.permit(step, body).await
    }

    async fn stranger(&self) {
        let (narrator, hong_kong) = (self.narrator, &self.space.hong_kong);
        let step = Step {
            id: "stranger",
            title: "A stranger knocks at Hong Kong with a certificate of another authority",
            concerned: &[&hong_kong.server],
        };
        let body = async {
            let knock = stranger::knock(self.space.program, &hong_kong.address).await?;
            narrator.shows(&format!("all that the stranger is told: {}", knock.told));
            let line = until("Hong Kong's log names the reason", async || {
                let lines = hong_kong.server.log_lines()?;
                Ok(lines
                    .into_iter()
                    .find(|line| text(line, "remote") == knock.from && !text(line, "code").is_empty()))
            })
            .await?;
            Ok(logged(&line))
        };
        narrator.refuse(step, &["identity/other-authority"], body).await;
    }

    async fn withdrawn(&self) {
        let (narrator, hong_kong, guangzhou) = (self.narrator, &self.space.hong_kong, &self.space.guangzhou);
        let step = Step {
            id: "certificate-withdrawn",
            title: "The authority withdraws Guangzhou's certificate; Hong Kong fetches the list",
            concerned: &[&hong_kong.server, &guangzhou.server, &self.space.authority],
        };
        let body = async {
            let revoke = ["authority", "revoke", "--dir", AUTHORITY, &GUANGZHOU.uri()];
            narrator.command(AUTHORITY, &shell(&revoke));
            self.space.program.run(&revoke).await?;
            let status: admin::Status = hong_kong.ask(narrator, &["reload"]).await?;
            narrator.shows(&format!("revocation list number {}", status.revocation_list_number));
            let seen = hong_kong.server.log_lines()?.len();
            let bare = refused(guangzhou.run(narrator, &["doctor", "peer", &hong_kong.address]).await)?;
            narrator.shows(&format!("all that Guangzhou is told: {}", bare.line()));
            let line = until("Hong Kong's log names the reason", async || {
                let lines = hong_kong.server.log_lines()?;
                Ok(lines.into_iter().skip(seen).find(|line| text(line, "message").starts_with("refused")))
            })
            .await?;
            Ok(logged(&line))
        };
        narrator.refuse(step, &["identity/certificate-revoked"], body).await;
    }
}
