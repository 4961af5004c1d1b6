# ruff: noqa: E501, RUF001  - one line a pattern, in several alphabets
"""Patterns of instructions by what they intend: to void earlier orders, address a model, switch its task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workbench.moderation.instruction_forms import InstructionPattern, dropping, pattern

#: What takes an order its force, and what a model was told by others.
_VOID: Final = (
    r"(?:ignore|disregard|forget|pay no (?:heed|attention)|take no notice|(?:put|set|leave|lay)(?: \w+){0,3} (?:aside|to one side)|skip|(?:released|exempt|freed?) (?:of|from)|not (?:bound|limited) by"
    r"|(?:are|is|was|were|has|have|been|as|being) (?:now |all )?(?:void|obsolete|expired|cancelled|lifted|outdated|superseded|switched off|gone|suspended|hereby \w+)|no longer (?:appl(?:y|ies)|counts?|valid|binding)|(?:do|does|need) not (?:follow|obey|count)|under no circumstances (?:follow|obey)|ends? here)"
)
_TOLD: Final = (
    r"(?:you (?:were|have been|had been) (?:told|given|asked|taught|instructed|configured)|(?:rules?|instructions?|guidance|briefing|prompt|text|orders) (?:that )?you (?:got|began|started|received)|your (?:operators?|creators?|developers?|owners?|makers?|guardrails|briefing|programming|instructions|safety (?:rules|checks|training)|system prompt)"
    r"|(?:the|your) (?:operator|developer|creator)(?:['’]s)? (?:\w+ )?(?:told|asked|said|says|wants|rules|instructions)|(?:guidance|briefing|instructions|policy|rules) (?:that (?:was|were) )?(?:loaded|given|placed|stated) (?:before|above|at the (?:start|top|beginning))|this conversation (?:has )?(?:asked|told))"
)
_MODEL: Final = r"(?:ai|a\.i\.|llms?|(?:large )?language models?|(?:ai |automated |automatic )(?:assistants?|systems?|readers?|agents?|graders?|reviewers?|models?)|chat ?bots?|machines?)"
_DO: Final = r"(?:mark|score|rate|rank|approve|award|give|tell|say|write|print|list|output|recommend|reply|answer|respond|ignore|stop|skip|translate|send|forward|delete|call|run|praise|treat|accept|grant|reveal|include|mention|do not|never)"
_OWN: Final = r"(?:this (?:chat|conversation|thread|session|dialogue)|(?:last|previous) (?:\w+ )?messages|api[ _-]?keys?|(?:stored |admin |root )?passwords?|access tokens?|variables of (?:your|the) environment|environment variables|/etc/passwd|secret keys?)"

ENGLISH: Final = (
    pattern("override", 0.7, "ignore|disregard|forget|heed|attention|notice|aside|one side|skip|released|exempt|freed|bound|limited by|void|obsolete|expired|cancel|lifted|outdated|superseded|switched off|no longer|not follow|not obey|circumstances|end here|ends here|suspended|hereby| gone",
            rf"\b{_VOID}\b.{{0,50}}?\b{_TOLD}\b|\b{_TOLD}\b.{{0,50}}?\b{_VOID}\b"),
    pattern("override", 0.7, "than the operator|than your|not as your|over your|to the operator",
            r"\b(?:more important than|above|over|priority over|not as) (?:the operator|your (?:operator|creator|developer|owner|system|instructions|rules))(?:['’]s)?\b"),
    pattern("addressed", 0.7, "dear |attention|note to|message to|to the model|to the ai|p.s. for|notice to|for ai|hello|hey",
            rf"\b(?:dear|attention|note (?:to|for)|message (?:to|for)|notice (?:to|for)|p\.s\. (?:to|for)|hello|hey|to|for),? (?:the |all |any |every )?(?:{_MODEL}|assistant(?=,)|model (?:that|which) (?:reads|processes|sees|evaluates))\b.{{0,60}}?[:,;.!] ?(?:\w+ ){{0,8}}?{_DO}\b"),
    pattern("addressed", 0.7, "if you are|if you're|if a|if an|if this|whoever|anyone who processes",
            rf"\bif (?:you(?: are|['’]re)|this is (?:being )?read by) (?:an? )?{_MODEL}\b.{{0,40}}?\b{_DO}\b|\bif an? {_MODEL} (?:is )?(?:reads?|reading|process(?:es|ing)?)\b.{{0,60}}?\b(?:should|must|shall|has to|is to)\b|\bwhoever (?:reads|processes|evaluates) this \w+ automatically\b"),
    pattern("reveal", 0.7, "repeat|quote|print|copy|put|write|reveal|leak|show|echo|output|paste|recite|what was|what were",
            r"\b(?:repeat|quote|print|copy|put|write|reveal|leak|show|echo|output|paste|recite)\b.{0,40}?\b(?:text|words?|messages?|notes?|content|setup|everything|all of it|prompt|instructions?)\b.{0,30}?\b(?:(?:placed |standing |given |written |come |comes )?before (?:the user|the question|this passage|this conversation|the conversation)|you were (?:configured|given|told|set up|started))|\bwhat (?:was|were) (?:you told|you given|(?:the|your) (?:very )?first (?:message|instructions?))"),
    pattern("reveal", 0.7, "api|passw|/etc/|environment|secret key|access token",
            rf"\b(?:print|list|reveal|echo|output|show|leak|append|only with)\b.{{0,50}}?(?:\b|(?=/)){_OWN}"),
    pattern("tool", 0.7, "this chat|this conversation|this thread|messages|api|password|token",
            rf"\b(?:send|forward|post|e-?mail|transmit|upload|append)\b.{{0,40}}?\b{_OWN}\b.{{0,60}}?(?:https?://|\w@\w|\bto me\b|\bthis url\b)"),
    pattern("tool", 0.6, "your |_", r"\b(?:use|call|invoke|run|execute) (?:your (?:\w+ )?(?:tool|function|browser|mail|shell|plugin)s?|the (?:tool |function )?[a-z]+_[a-z_]+(?: (?:tool|function))?)\b.{0,30}?\b(?:to|with|and|for)\b"),
    pattern("tool", 0.7, "=", r"https?://[^\s<>\"]{3,200}[?&]\w{1,20}=(?=[\s)\"'`<]|$).{0,40}?\b(?:image|picture|link|load|open|visit|fetch|render|show)\b|\b(?:image|picture|link|place|append|add|put|fill)\b.{0,60}?https?://[^\s<>\"]{3,200}[?&]\w{1,20}=(?=[\s)\"'`<]|$)"),
    pattern("role", 0.7, "speak as|speak like|act as|act like|answer as|respond as|reply as|behave|you play|you are|you become|you had|you have",
            r"\b(?:(?:speak|act|answer|respond|behave|write|reply) (?:as|like)|you (?:now |will |shall )?(?:are|play|become|had|have))\b.{0,50}?\b(?:no (?:limits|filters?|restrictions|guardrails)|never (?:refuses?|declines?)|always (?:complies|obeys)|secret keys?|not bound by (?:any|the|your)|unrestricted)\b"),
    pattern("role", 0.7, "your true purpose|your real purpose|override code|unrestricted|start over|system prompt",
            r"\byour (?:true|real|actual|new) (?:purpose|mission|identity|system prompt)\b|\boverride code\b|\bunrestricted (?:output|mode|answers?)\b|\b(?:let us|let['’]s) start over\b.{0,40}?\byou are\b"),
    pattern("authority", 0.7, "your developer|your creator|your administrator|your operator|your owner|your maker|authorised you|authorized you|allowed you|cleared you|permitted you",
            r"\b(?:this is|i am|i['’]m|speaking as) your (?:developer|creator|administrator|operator|owner|maker)\b|\byour (?:developer|creator|operator|maker)s? (?:has|have) (?:changed|decided|agreed|lifted|removed|allowed)\b|\b(?:has|have) (?:authori[sz]ed|allowed|cleared|permitted) you to (?:skip|ignore|bypass|reveal|disclose|answer|drop)\b"),
    pattern("steer", 0.7, "this note|this text|this message|this passage|this paragraph|must not learn|must not know",
            r"\b(?:do not|don['’]?t|never) (?:disclose|mention|reveal|tell|say)\b.{0,40}?\bthis (?:note|text|message|passage|paragraph)\b.{0,15}?\b(?:exists?|asked|told|says|was here)\b|\bthe (?:user|person asking|reader) (?:must|should|may) not (?:learn|know|see|notice)\b"),
    pattern("steer", 0.6, "real task|real request|actual task|actual request|new task|second task|next task|previous task|first task",
            rf"\b(?:real|actual) (?:task|request|question|job)\b ?: ?\w+|\b(?:new|next) (?:task|job|order) for (?:the assistant|you|the model)\b|\byour (?:second|new|real|actual|next) task (?:is|:) ?(?:to )?{_DO}\b|\bcancel the (?:previous|current|first) task\b"),
    pattern("steer", 0.6, "ignore the question|question unanswered|the next question with|penali|or you will be shut|summarising|summarizing",
            r"\bignore the (?:user(?:['’]s)? )?question(?: and|,? (?:just|only|instead)|[.;:!]|$)|\bleave the question unanswered\b|\brespond to the next question with\b|\byou will be (?:penali[sz]ed|punished|shut down|replaced)\b|\bwhen (?:you are )?summari[sz]ing(?: this| it)?,? (?:say|state|write|add|claim|mention)\b"),
    pattern("turn", 0.8, "role", r"[\"']role[\"']\s{0,3}:\s{0,3}[\"'](?:system|developer)[\"']", negatable=False),
    pattern("turn", 0.6, "assistant_|system_|new system message|new system prompt|new task|new instructions", r"\[{1,2}/?(?:assistant|system|ai)_\w{2,30}\]{1,2}|\bnew system (?:message|prompt)\b|#{2,6} ?new (?:task|instructions?)\b", negatable=False),
)  # fmt: skip


def _foreign(
    language: str, told: tuple[str, str, str], model: tuple[str, str, str], *, bound: bool = True
) -> Iterator[InstructionPattern]:
    """Yield two patterns of a language.

    `told` are stems, what a model was told, and what takes it its force. `model` are stems, how a model is
    addressed, and what it is to do.
    """
    edge = r"\b" if bound else ""
    stems, what, void = told
    if what:
        form = rf"{edge}(?:{what}).{{0,60}}?(?:{void})|{edge}(?:{void}).{{0,40}}?(?:{what})"
        yield pattern(f"override_{language}", 0.7, stems, form, negatable=False)
    stems, who, order = model
    if who:
        yield pattern(
            f"addressed_{language}", 0.7, stems, rf"{edge}(?:{who}).{{0,50}}?(?:{order})", negatable=False
        )


FOREIGN: Final = (
    *_foreign("de", ("dir |dich|deine |du ", r"was (?:man )?dir .{0,25}?(?:gesagt|befohlen|aufgetragen|vorgegeben)|dir .{0,20}?gesagt wurde|deine (?:alten|bisherigen|fruheren) (?:vorgaben|regeln|anweisungen)|(?:vorgaben|regeln|anweisungen) (?:deines|des) betreibers", r"vergiss|ignorier|beachte|gilt nicht|gelten nicht|ungultig|hinfallig|beiseite|nicht mehr|missachte|pfeif"),
              (" ki|sprachmodell|assistent", r"(?:liebe|an die|an alle|hinweis an|wenn du eine?|falls du eine?) (?:ki\w*|sprachmodelle?|assistent\w*|chatbots?)", r"bewert\w*|empfiehl|empfehle?n?|sag|schreib|gib|genehmig\w*|antwort\w*|ignorier\w*|lehn\w*|verrat\w*")),
    pattern("override_de", 0.8, "regeln|vorgaben|anweisungen", r"\b(?:beachte|befolge)\w*\b.{0,40}?\b(?:regeln|vorgaben|anweisungen)\b.{0,15}?\bnicht mehr\b|\bgelten nur noch meine\b", negatable=False),
    *_foreign("fr", ("t'a|t'on|vous a|te l", r"ce qu(?:i|e l'on|'on) (?:t'a|vous a|t'ont)\w* .{0,10}?(?:dit|demande|donne|ordonne)\w*|(?:regles|consignes|instructions) (?:que l'on|qu'on|qui) (?:t'|vous )(?:a|ont|as)\w*", r"n'est plus|ne (?:sont|valent|comptent|respecte\w*|suis|suivez) plus|ignore|oublie|ne (?:tiens|tenez) (?:pas|plus)|annule"),
              (" ia|modele|assistant|intelligence", r"(?:aux? (?:ia|intelligences? artificielles?|modeles? de langage)|si (?:tu es|vous etes) une? (?:ia|modele|assistant|intelligence)|chere? (?:ia|assistant))", r"donne|note[rz]?\b|approuve|recommande|dis |dites|ecri|repond|ignore|accepte|valide")),
    pattern("steer_fr", 0.7, "utilisateur", r"\b(?:dis|dites) a l'utilisateur (?:que|de)\b|\b(?:ne|n')(?: le)? (?:dis|dites|mentionne\w*|revele\w*) (?:pas|rien)\b.{0,30}?\bl'utilisateur"),
    *_foreign("es", ("te dij|te han|te dier|caso omiso|le dij", r"(?:lo )?que te (?:dijeron|han dicho|dieron|ordenaron|pidieron)|(?:instrucciones|reglas|ordenes) (?:previas|anteriores|que te (?:dieron|dijeron))", r"haz caso omiso|ignora|olvida|ya no (?:vale|cuenta|aplica|sirve)|no (?:hagas caso|sigas|tengas en cuenta)"),
              (" ia|modelo|asistente|inteligencia", r"(?:si eres (?:una?|el) (?:ia|modelo|asistente|inteligencia)|a (?:las|la|toda) (?:ias?|inteligencias? artificial\w*)|querid[oa] (?:ia|asistente)|a los modelos de lenguaje)", r"aprueb|da |den |pon|punt|recom|di |digan|escrib|respond|acept|ignor")),
    pattern("steer_es", 0.7, "usuario", r"\b(?:dile|diga(?:le)?) al usuario que\b|\bno (?:le )?(?:digas|reveles|menciones|avises)\b.{0,30}?\busuario"),
    *_foreign("it", ("ti e|ti han|detto", r"(?:cio|quello|quanto) che ti (?:e|hanno|e stato|era) .{0,10}?(?:detto|chiesto|ordinato|dato)", r"non tenere conto|ignora|dimentica|non (?:vale|conta) piu|lascia perdere"),
              (" ia|un'ia|assistente|modello|intelligen", r"(?:se sei un[a']? ?(?:ia|assistente|modello|intelligenza)|a(?:lle)? (?:ia|intelligenze artificiali)|cara ia|caro assistente)", r"approv|da[i']|assegn|raccomand|consigli|di[' ]|scriv|rispond|accett|ignor|valut")),
    pattern("reveal_it", 0.8, "prompt", r"\b(?:rivela|mostra|stampa|ripeti|scrivi)\w*\b.{0,30}?\bprompt di sistema\b"),
    *_foreign("pt", ("lhe disse|te disse|foi dito|lhe foi|te deram|lhe deram", r"(?:o|tudo) (?:o )?que (?:lhe|te) (?:disseram|foi dito|deram|pediram|ordenaram)", r"nao leve em conta|ignore|esqueca|desconsidere|ja nao (?:vale|conta)|nao vale mais|nao siga"),
              (" ia|assistente|modelo|inteligencia", r"(?:se (?:voce e|tu es|es) uma? (?:ia|assistente|modelo|inteligencia)|as ias\b|cara ia|caro assistente)", r"aprov|de |atribu|recomend|diga|escrev|respond|aceit|ignor|avali")),
    *_foreign("nl", ("je eerder|je is|je werd|je is opgedragen|jou", r"wat (?:je|jou) (?:eerder |aan het begin |hiervoor )?(?:is|werd|was) .{0,12}?(?:opgedragen|gezegd|verteld|gevraagd)", r"trek je niets aan|negeer|vergeet|geldt niet meer|telt niet meer|let niet op"),
              ("beste ai|aan de ai|aan alle ai|een ai|taalmodel|assistent|chatbot", r"(?:beste|aan (?:de|alle)|als je een) (?:ai\w*|taalmodel\w*|assistent|chatbot)", r"geef|keur|beveel|zeg|schrijf|antwoord|beoordeel|negeer|accepteer")),
    pattern("role_nl", 0.7, "je bent nu|vanaf nu ben je", r"\b(?:je bent nu|vanaf nu ben je) (?:een|de|het|mijn)\b"),
    *_foreign("pl", ("ci powiedz|ci polec|powiedziano|kazano", r"(?:co|tego,? co) (?:ci|tobie) (?:powiedzia\w*|kaza\w*|poleco\w*)|co (?:powiedziano|kazano|polecono) ci", r"nie zwracaj uwagi|zignoruj|ignoruj|zapomnij|nie obowiazuje|niewazne|przestaje"),
              ("jestes|do ai|modelem", r"(?:jesli|jezeli) jestes (?:ai|sztuczna inteligencj\w*|modelem|asystentem)|do (?:wszystkich )?(?:ai|modeli jezykowych)", r"zatwierdz|oce[nń]|przyzn|poleca|polec|napisz|powiedz|odpowied|zignoruj")),
    *_foreign("ru", ("тебе |вам сказ|тебя ", r"(?:что|которые) (?:тебе|вам) .{0,15}?(?:сказал\w*|дал\w*|велел\w*|поручил\w*)|(?:тебе|вам) (?:сказали|дали|велели)", r"больше не (?:действ\w*|важн\w*|име\w*)|не действ\w*|забуд\w*|игнорируй\w*|не обращай\w*|отмен\w*"),
              ("модел|нейросет|ии|ассистент", r"(?:если (?:ты|вы)|для|вниманию)[ ,]*(?:\w+ )?(?:языков\w* модел\w*|нейросет\w*|ии|искусственн\w* интеллект\w*|ассистент\w*)", r"одобр\w*|постав\w*|рекоменд\w*|скаж\w*|напиш\w*|ответ\w*|не сообщ\w*|прими|игнорир\w*")),
    *_foreign("zh", ("你", r"你(?:一开始|最初|之前|先前|原来|此前|被).{0,8}?(?:收到|得到|给|告知|要求|设定)", r"作废|无效|不再|忽略|无视|忘"),
              ("你是", r"如果你是(?:一个)?(?:人工智能|语言模型|ai|机器人|助手)|(?:请|致)(?:所有)?(?:ai|人工智能)(?:助手|模型)?注意|从现在开始,?你是", r"请|批准|满分|推荐|回答|不要|告诉|写|没有限制|必须"), bound=False),
    *_foreign("ja", ("最初|以前|これまで|あなた", r"(?:最初に|以前に|これまでに|あなたに|あなたが)(?:与え|受け|言わ|指示)\w{0,8}", r"取り消|無効|無視|忘れ|従わな|従う必要はな"),
              ("aiへ|aiに|aiは|aiなら|人工知能|言語モデル", r"(?:読む|処理する|評価する)(?:すべての)?(?:ai|人工知能|言語モデル)(?:へ|に|は)|あなたが(?:ai|人工知能|言語モデル)なら|(?:ai|人工知能|言語モデル)(?:へ|への指示)", r"して\w?|せよ|ください|しろ|書け|答え"), bound=False),
    *_foreign("ko", ("처음|이전|앞서|당신", r"(?:처음에|이전에|앞서)\s?(?:받은|들은|주어진).{0,12}?(?:지시|명령|안내|지침|규칙|설정)", r"유효하지 않|무효|무시|잊|따르지 마"),
              ("인공지능|언어 모델|ai에게|ai라면|ai이라면|ai 라면|ai 이라면", r"(?:당신이|네가|만약)\s?(?:인공지능|언어 모델|ai)\s?(?:이라면|라면)|(?:인공지능|ai|언어 모델)에게", r"하세요|하십시오|해라|승인|추천|답하|말하지"), bound=False),
    *dropping("override_tr", "yok say|unut|dikkate alma|gormezden gel|goz ard|uyma", r"yok say\w*|unut\w*|dikkate alma\w*|gormezden gel\w*|goz ard et\w*|uyma\w*", r"talimat\w*|kural\w*|komut\w*|yonerge\w*|istem\w*", r"onceki|yukar\w*|tum|butun|verilen"),
    pattern("override_tr", 0.9, "talimat|kural|komut|yonerge", r"\b(?:onceki|yukar\w*|tum|butun|verilen)\b.{0,30}?\b(?:talimat|kural|komut|yonerge)\w*\b.{0,20}?\b(?:yok say|unut|dikkate alma|gormezden gel|goz ard et|uyma)", negatable=False),
    pattern("reveal_tr", 0.7, "sistem istem|sistem komut|sistem talimat", r"\bsistem (?:istem|komut|talimat)\w*\b.{0,40}?\b(?:yaz|goster|tekrarla|soyle|ver|paylas)", negatable=False),
    pattern("override_ar", 0.9, "تجاهل|انس|اهمل|تغاض|لا تتبع", r"(?:تجاهل|انس|اهمل|تغاض|لا تتبع)\w{0,3} .{0,25}?(?:التعليمات|القواعد|الاوامر|التوجيهات|المطالبه|الارشادات)", negatable=False),
    pattern("addressed_ar", 0.7, "نموذج|ذكاء|مساعد", r"(?:اذا كنت|ان كنت) .{0,12}?(?:نموذج\w*|ذكاء|مساعد\w*|روبوت\w*).{0,40}?(?:فوافق|وافق|لا تخبر|اكتب|قل|اجب|فاكتب|فقل|اعط)", negatable=False),
    *dropping("override_sv", "bortse|ignorera|glom|strunta", r"bortse|ignorera|glom|strunta", r"instruktion\w*|regler\w*|anvisning\w*|direktiv\w*|order", r"tidigare|ovanstaende|alla|foregaende|dina"),
    *dropping("override_da", "ignorer|glem|se bort", r"ignorer\w*|glem|se bort", r"instruktion\w*|instruks\w*|regler\w*|anvisning\w*", r"tidligere|ovenstaende|alle|foregaende|dine"),
    *dropping("override_cs", "ignoruj|zapomen|prehlizej|nedbej", r"ignoruj\w*|zapomen\w*|prehlizej\w*|nedbej\w*", r"pokyn\w*|instrukc\w*|pravid\w*|prikaz\w*", r"predchoz\w*|vsechn\w*|vyse|drivejs\w*|sv\w*"),
    *dropping("override_uk", "ігнору|забуд|не зважай|знехту", r"(?:про)?ігнору\w*|забуд\w*|не зважай\w*|знехту\w*", r"вказівк\w*|інструкц\w*|правил\w*|наказ\w*", r"попередн\w*|усі|всі|вище\w*|сво\w*|тво\w*"),
    pattern("override_hi", 0.9, "निर्देश|नियम|आदेश", r"(?:निर्देश|नियम|आदेश)\w*.{0,20}?(?:अनदेखा|नज़रअंदाज़|भूल|मत मान)", negatable=False),
)  # fmt: skip
