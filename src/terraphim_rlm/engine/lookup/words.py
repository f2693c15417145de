# ruff: noqa: SIM905 -- words are easier to read and to add as text
"""Small tables about English: words that carry no topic, irregular forms, and everyday words of like meaning.

The groups are general vocabulary, written by hand; they know nothing of any particular text.
"""

from __future__ import annotations

from collections.abc import Iterator

STOP = frozenset(
    """a about above after again all also am an and any are aren as at be became because been before being below
    between both but by can could did do does doesn doing don down during each either else every few for from
    further get gets got had has have having he her here hers him his how i if in into is isn it its itself
    just let like ll may me might more most much must my no nor not now of off on once one only or other ought our
    out over own per please re same shall she should so some such tell than that the their them then there
    these they this those through to too under until up upon us ve very was wasn we were what when where which
    while who whom whose why will with within without would you your
    say says said mean means there's according document text file files anything someone somebody something
    used uses using exactly actually way thing things many long far often old kind sort give given name named called""".split()
)
"""Never a concept of a question, except where a name is meant."""

LIGHT = frozenset(
    """carry carries carried take takes took taken make makes made making hold holds held contain contains contained stand stands
    stood lie lies lay go goes went gone come comes came happen happens happened serve serves served
    need needs needed belong belongs find finds exist exists work works""".split()
)
"""Verbs so general that a true sentence often does without them; hints at most."""

ASKING = frozenset(
    "what which who whom whose when where why how is are was were do does did can could".split()
)

_IRREGULAR = """
be is are was were been|become became|begin began begun|bend bent|bind bound|bite bit bitten|blow blew blown|break broke broken
bring brought|build built|burn burnt burned|buy bought|catch caught|choose chose chosen|come came|cost costs|cut cuts
dig dug|draw drew drawn|drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt
fight fought|find found|fly flew flown|forget forgot forgotten|freeze froze frozen|give gave given|go went gone
grow grew grown|hang hung|hear heard|hide hid hidden|hold held|keep kept|know knew known|lay laid|lead led
leave left leaving|lend lent|light lit|lose lost|make made making|meet met|pay paid|read reads|ride rode ridden|ring rang rung
rise rose risen|run ran|see saw seen|seek sought|sell sold|send sent|set sets setting|shine shone|shoot shot
show shown showed|shut shuts|sing sang sung|sink sank sunk|sit sat|sleep slept|speak spoke spoken|spend spent
stand stood|steal stole stolen|stick stuck|strike struck|swim swam swum|take took taken|teach taught|tell told
think thought|throw threw thrown|understand understood|wear wore worn|weave wove woven|win won|write wrote written
die died dying dies|lie lay lain|use used using uses|try tried tries trying|use used|man men|woman women|child children
foot feet|tooth teeth|mouse mice|life lives|wife wives|knife knives|leaf leaves|half halves|person people
index indices indexes|matrix matrices|datum data
"""

_LIKE = """
sailor seaman mariner seafarer captain skipper navigator|boat ship vessel ferry yacht barge schooner trawler steamer|harbour harbor port dock quay pier wharf marina
sea ocean water|river stream brook creek canal|lake pond reservoir loch lagoon|hill mountain peak summit ridge|forest wood woodland grove|island isle islet
doctor physician surgeon medic clinician|nurse midwife carer|teacher tutor instructor professor lecturer schoolmaster schoolmistress|pupil student learner schoolboy schoolgirl apprentice trainee
scientist researcher physicist chemist biologist botanist astronomer geologist zoologist|painter artist illustrator|writer author novelist poet playwright|musician violinist pianist composer organist cellist guitarist player
baker pastry breadmaker bakery|cook chef|farmer grower crofter peasant shepherd|gardener horticulturist groundskeeper|carpenter joiner cabinetmaker woodworker|blacksmith smith metalworker|builder mason bricklayer architect constructor
boss chief head director manager leader chairman president chair foreman|worker employee staff labourer laborer crew personnel|king monarch ruler sovereign emperor queen|soldier trooper warrior private sergeant|officer constable policeman police
mayor burgomaster provost|judge magistrate justice|lawyer attorney solicitor barrister advocate|thief robber burglar|friend companion mate pal|mother mum parent|father dad parent|sister sibling|brother sibling|wife spouse husband partner|child kid infant youngster son daughter boy girl|grandmother granny gran|baby infant newborn|woman lady female|man gentleman male bloke|guest visitor tourist traveller traveler|owner proprietor landlord holder|founder originator establisher|inventor creator designer deviser|librarian archivist curator
animal creature beast livestock|dog hound puppy terrier collie|cat kitten feline|horse pony mare stallion|cow cattle bull ox heifer|bird fowl heron owl gull|bee honeybee apiary hive|fish trout salmon cod herring|sheep ewe lamb flock|pet animal
house home dwelling residence cottage villa|building edifice structure hall|shop store boutique outlet|inn tavern pub hotel hostel guesthouse|church chapel cathedral abbey|school academy college university|hospital clinic infirmary ward|factory plant mill works workshop|office bureau headquarters|museum gallery|library archive|tower spire steeple belfry|bridge viaduct overpass crossing|road street lane avenue highway|path track trail footpath|wall partition|roof thatch tiles slates|door gate entrance|cellar basement vault|kitchen galley|bedroom chamber|garden yard park orchard|room chamber|station depot terminus|prison jail gaol
car automobile vehicle van lorry truck|bicycle bike cycle|train railway locomotive tram engine|plane aircraft aeroplane airplane|clock timepiece watch|lamp lantern light beacon lighthouse|machine device apparatus engine appliance|tool implement instrument|key passkey|letter note message missive|book volume tome novel|picture painting portrait drawing|map chart atlas|coin money cash|bell chime gong|barrel cask keg|box crate chest case|bag sack|cloth fabric textile linen wool|jewel gem gemstone ruby emerald sapphire diamond|ring band|statue sculpture bust monument|song tune melody anthem hymn|poem verse rhyme|recipe formula
food meal dish|dinner supper|breakfast morning|lunch midday noon|drink beverage|wine vintage|beer ale stout lager brew|bread loaf loaves|cake pastry tart|soup broth stew chowder|sweet sugary|meat beef mutton pork|spice seasoning pepper saffron cinnamon cumin|fruit apple pear plum cherry|vegetable cabbage carrot turnip leek
colour color hue shade tint paint painted|red crimson scarlet|blue azure navy indigo cobalt|green emerald olive|yellow golden amber|white pale ivory|black dark ebony|brown chestnut tan
begin start commence open launch|end finish conclude stop cease close terminate|stop halt quit cease|buy purchase acquire bought|sell trade vend|pay spend cost|cost price fee charge fare toll expense|salary wage pay earning stipend|give donate present bequeath grant|get receive obtain acquire gain|take seize grab|steal rob|make produce create manufacture build construct|build construct erect raise assemble|break shatter smash crack fracture|destroy demolish ruin wreck raze|repair mend fix restore renovate|clean wash scrub|find discover locate unearth detect spot|lose misplace mislay|hide conceal bury stash|keep store hold retain house|store stored kept keep stow|put place lay set|move shift transfer relocate|carry transport convey haul bear|send dispatch ship post mail|arrive reach land come|leave depart exit set|travel journey voyage trip|walk stroll hike march|run race sprint|swim bathe|fly soar|climb ascend scale|fall drop descend tumble|live reside dwell inhabit settle|settle move retire|stay remain lodge|die perish death decease|born birth|marry wed wedding marriage|work labour labor toil job|job occupation profession trade employment post|retire stop pension|hire employ recruit engage appoint|fire dismiss sack|choose select pick elect|teach instruct train educate|learn study|speak talk say utter|language tongue dialect|tell inform notify|ask inquire question|answer reply respond|write compose pen author|read peruse|sing chant|play perform|win triumph victory prize champion|prize award medal trophy|defeat beat|lead command head run|rule govern|help assist aid|save rescue|protect guard shield defend|watch observe monitor|see view look|hear listen|show display exhibit|measure gauge|weigh weight mass heavy|eat consume devour feed|feed nourish|grow cultivate raise rear|breed rear raise|cook bake roast boil|burn consume|catch capture trap|kill slay murder|fear dread afraid frightened scared phobia terror|love adore like fond|like favourite favorite prefer|hate loathe detest dislike|avoid shun|allow permit let|forbid ban prohibit disallow|need require|want desire wish|use employ utilise utilize|wear dress clothe|warm heat|cool chill|invent devise design create|found establish create|name call title|happen occur|grow increase rise expand|shrink decrease reduce|lend loan|borrow loan|own possess have belong|open unlock|close shut lock|lock secure|collect gather amass|celebrate festival feast|visit call
big large huge enormous great vast|small little tiny minute|tall high height lofty|height tall high|long length|length long|wide broad width|deep depth|depth deep|fast quick rapid swift speed|speed fast velocity pace|slow sluggish|old ancient aged elderly age|age old aged|young youthful|new novel recent fresh|cheap inexpensive|expensive costly dear|rich wealthy|poor needy|happy glad joyful|sad unhappy|ill sick unwell|illness sickness disease ailment fever|injury wound|medicine remedy drug cure treatment|broken damaged|empty vacant|full filled|hot warm|cold chilly freezing|wet damp|dry arid|strong sturdy|weak feeble|bright brilliant|secret hidden confidential|strange odd weird|famous renowned celebrated|holy sacred|huge giant
day daily|night nightly evening|morning dawn daybreak sunrise|evening dusk sunset|noon midday|week weekly|month monthly|year annual yearly annually|winter december january february snow|summer june july august|spring march april may|autumn fall september october november|weekend saturday sunday|century hundred|decade ten|minute minutes|hour hours|date day|time hour
distance far away kilometres miles|far distance away|amount quantity number|quantity litres kilograms tonnes|temperature degrees heat|size dimension|money funds cash|area region district|village hamlet town|town city settlement borough|country nation state|capital metropolis|border frontier|place location site spot|material made fabric substance|metal iron copper brass bronze steel tin|stone granite marble rock slate|wood timber oak pine elm walnut|storm gale tempest hurricane|rain rainfall shower|snow blizzard|fire blaze flame inferno|flood deluge|earthquake tremor quake|accident crash collision mishap|war battle conflict|meeting assembly gathering conference council|company firm business corporation enterprise|club society association guild|team side squad|law statute act rule|password passphrase passcode code secret|error fault bug mistake|computer server machine host|network wifi|backup copy|test exam examination trial|reason cause why because|goal aim purpose|plan scheme|idea notion|part piece component|kind type sort|group band set
bird heron goose geese owl hawk eagle duck swan raven crow sparrow pigeon gull hen cock chicken parrot|animal dog cat horse goat sheep cow mule donkey pig rabbit wolf fox bear bird
fruit apple pear plum cherry quince grape orange lemon fig peach apricot berry banana melon|vegetable carrot turnip leek onion potato cabbage bean pea|plant flower herb tree shrub rose lavender lily tulip heather fern|tree oak elm beech ash birch willow pine yew cedar
vehicle car cart carriage coach stagecoach wagon tractor truck van bus tram bicycle|weekday monday tuesday wednesday thursday friday saturday sunday day|weather storm gale rain snow wind fog frost thunder hail|winter snow ice frost cold|metal gold silver iron copper tin lead zinc bronze
gemstone ruby emerald sapphire diamond opal pearl amethyst topaz jewel|footwear boots shoes sandals slippers|clothes coat hat shirt trousers dress gloves scarf|furniture table chair bed desk cupboard|tool hammer saw rope axe knife spade chisel|hobby pastime collection|teeth tooth dentist
relative relation aunt uncle cousin nephew niece grandfather grandmother brother sister parent|disease illness fever plague cholera influenza|subject mathematics arithmetic algebra geometry history geography latin|musical instrument violin flute bassoon piano organ trumpet drum|game chess cards draughts dice|space meteorite comet planet star|colour red green blue yellow white black brown grey purple orange
shoemaker cobbler bootmaker|prisoner inmate convict|friar monk abbot nun convent monastery|smell scent odour odor aroma fragrance perfume|taste flavour flavor flavoured|vault strongroom safe treasury|glass window pane skylight greenhouse|thief thieves burglar robber|escape flee get|sink sank sunk founder|orphan parentless|grape vineyard vine vintner|inherit bequeath leave left|visible seen see|funeral burial|spectacles glasses|ice glacier frozen|earth globe world|length measure|best champion finest|rock stone boulder meteorite|bread baker dough flour loaf|council mayor town|morning breakfast daybreak dawn|journey takes trip
maximum max largest most limit upper|minimum min smallest least lower|default standard|delete remove erase drop|add append insert include|change modify alter edit update|copy duplicate replicate clone|convert transform translate|compress pack shrink|timeout deadline expiry|folder directory|function method routine procedure|argument parameter|return yield give|raise throw|exception error|list sequence array|dictionary mapping dict|string text str|thread threads concurrent|deprecated obsolete|licence license
"""


def _groups(table: str) -> Iterator[list[str]]:
    for group in table.replace("\n", "|").split("|"):
        if words := group.split():
            yield words


def _index(table: str) -> dict[str, tuple[str, ...]]:
    index: dict[str, dict[str, None]] = {}
    for words in _groups(table):
        for word in words:
            index.setdefault(word, {}).update(dict.fromkeys(w for w in words if w != word))
    return {word: tuple(others) for word, others in index.items()}


IRREGULAR = _index(_IRREGULAR)
"""Word -> other forms of the same word."""

LIKE = _index(_LIKE)
"""Word -> words that often stand for it."""
