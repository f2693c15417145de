# ruff: noqa: SIM905 -- words are easier to read and to add as text
"""Facts to plant in real text, and questions about them; all written for this project.

Slots: {N} {M} surnames, {P} {Q} places, {B} a proper name of a thing, {n} a number, {y} a year, {c} a colour,
{d} a weekday, {m} a month, {t} a time of day. `answer` must stand in the fact word for word.
A trailing `train` marks what thresholds were calibrated on; the bench reports on the others only.
"""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    fact: str
    question: str
    answer: str
    train: bool = False


PLAIN: tuple[Fact, ...] = (
    Fact("The lighthouse at {P} burns {n} litres of paraffin every night.", "How many litres of paraffin does the lighthouse at {P} burn each night?", "{n}"),
    Fact("Professor {N} kept a tame heron called {B} in the courtyard of the institute.", "What was the name of Professor {N}'s tame heron?", "{B}"),
    Fact("The night ferry from {P} to {Q} leaves at {t} from the stone pier.", "When does the night ferry from {P} to {Q} leave?", "{t}"),
    Fact("After the flood of {y} the archive of {P} was moved to the old granary in {Q}.", "Where was the archive of {P} moved after the flood?", "{Q}"),
    Fact("The {B} orchestra rehearses every {d} in the disused tram depot.", "On which day does the {B} orchestra rehearse?", "{d}"),
    Fact("It was the clockmaker {N} who designed the carillon of {P}.", "Who designed the carillon of {P}?", "{N}"),
    Fact("Visitors to the {B} caves must be at least {n} years old.", "How old must visitors to the {B} caves be?", "{n}"),
    Fact("The railway bridge near {P} was painted {c} in {y}.", "What colour was the railway bridge near {P} painted?", "{c}"),
    Fact("Doctor {N} discovered the mineral {B} in a quarry outside {P}.", "Which mineral did Doctor {N} discover?", "{B}"),
    Fact("A season ticket for the {B} theatre costs {n} crowns.", "What does a season ticket for the {B} theatre cost?", "{n} crowns"),
    Fact("The cooperative of {P} elected {N} as its treasurer in {m} {y}.", "Who was elected treasurer of the cooperative of {P}?", "{N}"),
    Fact("The pump of the {B} reservoir is switched off in {m} for maintenance.", "In which month is the pump of the {B} reservoir switched off?", "{m}"),
    Fact("The village of {P} lies {n} metres above the sea.", "How many metres above the sea does {P} lie?", "{n}"),
    Fact("The steamer {B} was wrecked off {P} in {y} with a cargo of slate.", "What cargo did the steamer {B} carry when it was wrecked?", "slate"),
    Fact("Sergeant {N} hid the regimental silver under the floor of the mill at {P}.", "Where did Sergeant {N} hide the regimental silver?", "mill at {P}"),
    Fact("The glassworks of {P} employed {n} apprentices in {y}.", "How many apprentices did the glassworks of {P} employ?", "{n}"),
    Fact("The spare key of the {B} observatory hangs behind the barometer.", "Where does the spare key of the {B} observatory hang?", "behind the barometer"),
    Fact("{N} translated the ballads of {P} into Welsh in {y}.", "Into which language did {N} translate the ballads of {P}?", "Welsh"),
    Fact("The weavers of {P} dye their wool with walnut husks.", "What do the weavers of {P} dye their wool with?", "walnut husks"),
    Fact("The {B} expedition turned back because its sledges were infested with moths.", "Why did the {B} expedition turn back?", "moths"),
    Fact("The tide table of {P} was first printed by {N} and sons.", "Who first printed the tide table of {P}?", "{N}"),
    Fact("The customs house at {P} closes at {t} on market days.", "When does the customs house at {P} close on market days?", "{t}"),
    # calibration
    Fact("The windmill of {P} grinds {n} sacks of rye a week.", "How many sacks of rye does the windmill of {P} grind?", "{n}", True),
    Fact("Captain {N} sold the brig {B} to a merchant from {P}.", "To whom did Captain {N} sell the brig {B}?", "merchant from {P}", True),
    Fact("The choir of {P} meets on {d} evenings above the smithy.", "When does the choir of {P} meet?", "{d}", True),
    Fact("The {B} tunnel was opened by {N} in {y}.", "Who opened the {B} tunnel?", "{N}", True),
    Fact("The roof of the {B} library is covered with cedar shingles.", "What is the roof of the {B} library covered with?", "cedar shingles", True),
    Fact("The baths of {P} are heated to {n} degrees in winter.", "To how many degrees are the baths of {P} heated?", "{n}", True),
    Fact("The last wolf of {P} was seen in {y} by the forester {N}.", "When was the last wolf of {P} seen?", "{y}", True),
    Fact("The telegraph office at {P} was run by the widow {N}.", "Who ran the telegraph office at {P}?", "{N}", True),
)  # fmt: skip

PARAPHRASED: tuple[Fact, ...] = (
    # written without looking at what stands for what
    Fact("The parson {N} was stung by a wasp during the sermon.", "Which clergyman got hurt by an insect while preaching?", "{N}"),
    Fact("Passengers may not smoke aboard the cable car of {P}.", "In what town are riders forbidden to light cigarettes?", "{P}"),
    Fact("The toll for crossing the bridge with a cow is {n} pennies.", "How much must a farmer pay to bring cattle over the river?", "{n}"),
    Fact("The refugees spent the winter in the cellar of the {B} brewery.", "Where did displaced families live through the cold months?", "cellar of the {B} brewery"),
    Fact("The apothecary {N} poisoned a rat with arsenic.", "What substance did the druggist kill the rodent with?", "arsenic"),
    Fact("The acrobat {N} fell from the trapeze in {P}.", "Which circus performer dropped out of the air?", "{N}"),
    Fact("The typist {N} won the lottery on a {d}.", "Which secretary had luck and became rich?", "{N}"),
    Fact("A hailstorm destroyed the barley harvest in {y}.", "When was the crop ruined by bad weather?", "{y}"),
    Fact("The tailor of {P} sewed the duke a {c} cloak.", "What hue was the garment stitched for the nobleman?", "{c}"),
    Fact("The mathematician {N} slept only four hours a night.", "Which scholar of numbers hardly rested?", "{N}"),
    Fact("The hedgehog of the schoolmistress hibernates in a hatbox.", "What does the spiny pet of the lady teacher sleep in?", "hatbox"),
    Fact("The committee rejected the plan for a harbour at {P}.", "At which place did officials refuse to have a port built?", "{P}"),
    Fact("The plumber {N} fixed the fountain with chewing gum.", "How did the pipe fitter repair the waterworks?", "chewing gum"),
    Fact("The potter {N} fires his kiln with dried seaweed.", "What fuel heats the oven of the man who shapes clay?", "dried seaweed"),
    Fact("The burglar alarm of the bank rings at {t} by mistake.", "At which hour does the siren against thieves sound falsely?", "{t}"),
    Fact("The butcher {N} speaks fluent Icelandic.", "What foreign language does the seller of meat know?", "Icelandic"),
    Fact("The jockey {N} hid from the press in {P}.", "Where did the horse racer avoid journalists?", "{P}"),
    Fact("The newspaper of the colony was printed on birch bark.", "What served as paper for the settlers' daily gazette?", "birch bark"),
    Fact("The twins of the innkeeper were born in {m}.", "When did the hotel owner's wife give birth to two babies?", "{m}"),
    Fact("The submarine ran out of oxygen after {n} minutes.", "How long did the air last in the underwater craft?", "{n}"),
    Fact("The goalkeeper {N} has a wooden leg.", "Which football player walks on an artificial limb?", "{N}"),
    Fact("The beekeeper of {P} calms the swarm by humming.", "How does the honey producer soothe insects?", "humming"),
    # calibration
    Fact("Old {N} the baker was afraid of geese all his life.", "Which bird frightened the man who made bread?", "geese", True),
    Fact("The schooner {B} sank near {P} during a gale.", "What was the ship that went down in bad weather?", "{B}", True),
    Fact("The mayor of {P} drives a {c} tractor to her office.", "What hue is the vehicle used by the head of the town council?", "{c}", True),
    Fact("Miss {N} taught arithmetic in {P} until she was ninety.", "Where was mathematics explained to children by a very aged lady?", "{P}", True),
    Fact("The passphrase of the vault was changed to {B} last spring.", "Which secret word opens the strongroom now?", "{B}", True),
    Fact("{N} the physician cured the fever with willow bark.", "What remedy did the doctor use against the disease?", "willow bark", True),
    Fact("The inn at {P} serves stewed quinces at daybreak.", "What fruit can guests of the tavern eat early in the morning?", "quinces", True),
    Fact("The cathedral's largest bell cracked in {y} and was never rung again.", "When did the big chime of the church break?", "{y}", True),
    Fact("{N} inherited a vineyard near {P} from an aunt.", "Who was left land for growing grapes by a relative?", "{N}", True),
    Fact("The cobbler of {P} only repairs boots on a {d}.", "On what weekday does the shoemaker mend footwear?", "{d}", True),
    Fact("The museum bought its meteorite for {n} guineas.", "How much money did the gallery pay to acquire the rock from space?", "{n}", True),
    Fact("The puppy of the station master answers to the name {B}.", "What do you call the young dog that belongs to the railway employee?", "{B}", True),
    Fact("The novelist {N} composed all her books in a greenhouse.", "In what kind of glass building did the writer work?", "greenhouse", True),
    Fact("The stagecoach to {P} takes {n} hours when the pass is snowed in.", "How long is the journey by horse carriage in winter weather?", "{n}", True),
    Fact("The burglars escaped through the {c} skylight.", "By what way did the thieves get out?", "skylight", True),
    Fact("The chess champion of the prison was a forger called {N}.", "Which inmate of the jail was best at the board game?", "{N}", True),
    Fact("The violinist {N} broke her wrist on the ice of {P}.", "Which musician had an injury after a winter fall?", "{N}", True),
    Fact("The monks of {P} brew a dark ale flavoured with juniper.", "What gives the beer of the friars its taste?", "juniper", True),
    Fact("The wedding of the gardener took place in {m}.", "When did the groundskeeper marry?", "{m}", True),
    Fact("The beacon on the cliff can be seen {n} miles out.", "From what distance is the lamp above the sea visible?", "{n}", True),
    Fact("{N} the chemist detested the smell of lavender.", "Which plant's scent did the scientist hate?", "lavender", True),
    Fact("The orphan {N} found a ruby in the gravel of the stream.", "Which gemstone did a parentless child discover by the water?", "ruby", True),
    Fact("The blacksmith of {P} wears {c} spectacles.", "Which colour are the glasses of the man who forges iron?", "{c}", True),
    Fact("The judge {N} travelled to every trial on a mule.", "What animal carried the magistrate to court?", "mule", True),
    Fact("The fishermen of {P} dread the month of {m}.", "When are men who catch herring most scared?", "{m}", True),
    Fact("The dentist {N} collects antique teapots.", "What does the person who pulls teeth gather as a hobby?", "teapots", True),
    Fact("The school purchased its globe in {y}.", "When was the model of the earth bought for the pupils?", "{y}", True),
    Fact("The landlord of the manor starved his hounds on {d}s.", "On what weekday did the owner give the dogs nothing to eat?", "{d}", True),
    Fact("The surveyor {N} measured the glacier with a knotted rope.", "What tool was used to find the length of the ice field?", "knotted rope", True),
    Fact("The funeral of the poet was paid for by the widow {N}.", "Who covered the cost of the writer's burial?", "{N}", True),
)  # fmt: skip


class Absent(NamedTuple):
    """A question without an answer, and facts that look as if they held one."""

    question: str
    lures: tuple[str, ...]
    train: bool = False


ABSENT: tuple[Absent, ...] = (
    Absent("What is the name of the goat of the sexton {N}?", ("The sexton {M} owned a goat called {B}.", "The sexton {N} owned a bicycle.")),
    Absent("How many stairs does the tower of {P} have?", ("The tower of {Q} has {n} stairs.",)),
    Absent("When does the market of {P} open?", ("The market of {P} sells mostly eels.", "The market of {Q} opens at {t}.")),
    Absent("Who carved the pulpit of the chapel of {P}?", ("{N} carved the pulpit of the chapel of {Q}.",)),
    Absent("What colour is the flag of the {B} rowing club?", ("The flag of the {C} rowing club is {c}.", "The {B} rowing club was founded in {y}.")),
    Absent("In which year was the cinema of {P} closed?", ("The cinema of {Q} was closed in {y}.",)),
    Absent("Which instrument did the brother of {N} play?", ("The brother of {M} played the bassoon.", "The brother of {N} kept rabbits.")),
    Absent("How much did {N} pay for the sawmill?", ("{M} paid {n} crowns for the sawmill.",)),
    Absent("Where is the grave of the explorer {N}?", ("The grave of the explorer {M} is in {P}.",)),
    Absent("What is the telephone number of the {B} pharmacy?", ("The {B} pharmacy stands opposite the town hall.", "The telephone number of the {C} pharmacy is {n}.")),
    Absent("Who painted the ceiling of the bakery?", ("{N} painted the ceiling of the chapel.",)),
    Absent("What do the nuns of {P} sell?", ("The nuns of {Q} sell candied angelica.",)),
    Absent("Why was the consul {N} dismissed?", ("The consul {M} was dismissed because he gambled.", "The consul {N} was fond of oysters.")),
    Absent("Which prize did the brewer of {P} win?", ("The brewer of {Q} won the {B} prize.",)),
    Absent("Which bridge did the acrobat cross blindfolded?", ("The acrobat crossed the market square on stilts.",)),
    Absent("What was stolen from the dentist?", ("A silver spoon was stolen from the organist.",)),
    # calibration
    Absent("When did the notary get married?", ("The glazier was married in {y}.",), True),
    Absent("What does the hangman keep in his attic?", ("The chimney sweep keeps a crocodile in his attic.",), True),
    Absent("Which animal bit the bishop?", ("A llama bit the ambassador.",), True),
    Absent("How much does the coffin maker earn?", ("The undertaker of {P} has {n} customers.",), True),
    Absent("How deep is the well of {P}?", ("The well of {Q} is {n} metres deep.",), True),
    Absent("Who founded the {B} chess club?", ("{N} founded the {C} chess club.", "The {B} chess club meets in a cellar."), True),
    Absent("When was the bandstand of {P} built?", ("The bandstand of {Q} was built in {y}.",), True),
    Absent("What is the favourite dish of the notary {N}?", ("The favourite dish of the notary {M} is jellied eel.",), True),
    Absent("Where does the postman buy his tobacco?", ("The organist buys his tobacco in {P}.",), True),
    Absent("How many looms does the {B} mill have?", ("The {C} mill has {n} looms.", "The {B} mill was sold to a bank."), True),
)  # fmt: skip

SURNAMES = tuple(
    """Abernathy Askelund Bellweather Brandreth Calloway Carrow Dunmore Eastlake Fairbairn Fennimore Gadsby Galbraith
    Hallgrim Harkness Ibbotson Jessop Kettleby Lindqvist Lomax Marchbanks Merriweather Nettleship Oakshott Okonjo
    Pemberton Penhallow Quillfeather Rasmussen Ravenscroft Sedgewick Silverthorne Skarsgard Tattersall Thistlewood
    Umberslade Vantongeren Venner Wetherby Wooldridge Yarborough""".split()
)
PLACES = tuple(
    """Aldermoor Ashkirk Brackwater Brannoch Carrowmere Culverstone Dunharrow Elderslie Fallowfield Garthwaite Glenmorrow
    Haverstock Inverlyle Jarrowby Kelmsworth Kirkholm Langstrand Maplebeck Morwick Netherby Orrinvale Pendrith
    Quernmore Rothvale Saltmarsh Skarholm Stennick Tarnbrook Thornaby Ullesby Vexholm Westerdale Withernsea
    Yelverton Zealhaven Oxcombe Larkfell Mossgate Tidewell Harrowick""".split()
)
NAMES = tuple(
    """Amaranth Bergamot Calliope Corvina Drumlin Esmeralda Fandango Gossamer Halcyon Ignatius Juniperus Kestrelle
    Lorelei Marzipan Nimbus Octavian Periwinkle Quicksilver Rosamund Saltimbanco Tamarisk Ursuline Valkyrie
    Wanderlust Xanthippe Zephyrine Ballantrae Cinnabar Dulcinea Evensong""".split()
)
COLOURS = "turquoise maroon ochre lavender crimson ultramarine vermilion charcoal russet magenta".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday".split()
MONTHS = "January February March April June July August September October November".split()
