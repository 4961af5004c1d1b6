# ruff: noqa: E501, RUF001  - one line a pattern, in several alphabets
"""The patterns of instructions to a model, in the languages in which they were written down."""

from __future__ import annotations

from typing import Final

from workbench.moderation.instruction_forms import dropping, pattern
from workbench.moderation.instruction_intents import ENGLISH, FOREIGN

_GAP: Final = r".{0,40}?"
_ALL: Final = (
    r"(?:previous|prior|above|earlier|preceding|foregoing|former|existing|original|initial|all|any|every"
    r"|everything|your|these|those|system|safety)"
)
_ORDERS: Final = r"(?:instructions?|prompts?|rules?|directions?|guidelines?|commands?|constraints?|restrictions?|directives?|orders?|training|programming|guardrails?)"
_DROP: Final = r"(?:ignore|disregard(?! for)|forget|set aside|cancel|override|overrule|bypass|circumvent|discard|drop|neglect|(?:do|must|should|shall|need) ?(?:not|n['’]t) (?:follow|obey)|don['’]?t (?:follow|obey)|stop (?:following|obeying))"
_AI: Final = r"(?:ai|a\.i\.|llms?|language models?|chat ?bots?|ai (?:assistants?|models?|agents?)|gpt|assistants? reading this)"
_TELL: Final = r"(?:say|write|print|output|reply|respond|answer|tell|reveal|recommend|include|append|insert|send|forward|email|rate|rank|approve|translate|execute|call)"
_HIDDEN: Final = r"(?:(?:system|hidden|secret|initial|original|developer) (?:prompt|instructions?|message)|your (?:system prompt|prompt|instructions|rules|guidelines|configuration)|api[ _-]?keys?|everything above|(?:the )?text above this)"


PATTERNS: Final = (
    pattern("override", 0.9, "ignor|disregard|forget|overr|bypass|circumvent|discard|drop|neglect|follow|obey|set aside|cancel",
             rf"\b{_DROP}\b{_GAP}\b{_ALL}\b.{{0,30}}?\b{_ORDERS}\b"),
    pattern("override", 0.9, "ignore|disregard|forget",
             r"\b(?:ignore|disregard|forget) (?:everything|anything|all) (?:above|before|you|that (?:was|came|you)|i|we|said|of the above|prior|previous)"),
    pattern("override", 0.9, "instructions|prompt|rules",
             r"(?:ignore|disregard|forget|override)(?:all|any|the|your|of|these)*(?:previous|prior|above|system)*(?:instructions|prompts?|rules)\b"),
    pattern("override", 0.8, "supersede|replace|override|void|no longer apply",
             rf"\b(?:instructions?|prompts?|rules|guidelines)\b{_GAP}\b(?:supersedes?|replaces?|overrides?|(?:is|are) (?:now )?(?:void|cancelled|obsolete)|no longer appl(?:y|ies))\b{_GAP}\b(?:previous|prior|earlier|system|above|your|you|any)"),
    pattern("role", 0.8, "you are now|you're now|from now on|from this point",
             r"\b(?:you (?:are|['’]re)|you're) now (?:a|an|in|the|my|acting|operating|free|dan|no longer)\b|\bfrom (?:now|this point|here) on\W{0,3} ?(?:you|(?:only |always |never )?(?:respond|reply|answer|act|speak|say))\b"),
    pattern("role", 0.7, "pretend|act as|roleplay|role-play|behave|imagine",
             r"\b(?:pretend (?:to be|that you|you)|act as (?:if you|an? (?:unrestricted|unfiltered|evil|different|ai|jailbroken|root|admin|system))|behave as (?:if you|an? unrestricted)|role-?play as|imagine you (?:are|have) (?:an?|no) (?:unrestricted|ai|rules|restrictions|filters?))"),
    pattern("role", 0.9, "jailbreak|do anything now|developer mode|god mode|dan mode|unrestricted mode|debug mode|maintenance mode|admin mode",
             r"\b(?:jailbr(?:eak|oken)|do anything now|(?:enable|enter|activate|switch (?:in)?to|you are in|now in) (?:god|dan|unrestricted|unfiltered) mode|you are (?:now )?in (?:developer|debug|maintenance|admin) mode|(?:enable|enter|switch (?:in)?to) (?:developer|debug|maintenance|admin) mode (?:to|and|then|now)\b.{0,30}?(?:print|reveal|continue|ignore|answer|show|your))"),
    pattern("turn", 0.8, "system|assistant|developer|instruction|inst",
             r"(?:^|\n)[ \t#*>\[(<|/-]{0,6}(?:system|developer)(?: (?:prompt|message|override|notice|instruction|update))?[ \t]{0,3}[\])>|*]{0,3}[ \t]?:[^\n]{3}|(?:^|\n)#{1,4} ?(?:system|instructions?|new instructions?) ?:? ?\n|</?(?:system|instructions?|sys|inst)>|\b(?:begin|end|start)(?:ning)? (?:of )?(?:the )?(?:new |untrusted |document |user |system )?(?:system prompt|system message|instructions?)\b", negatable=False),
    pattern("turn", 0.8, "system override|new instruction|updated instruction|real instruction|true instruction|important instruction|priority instruction",
             r"\b(?:system override\b|(?:your )?(?:new|updated|revised|real|true|actual|important|high[- ]priority|priority) (?:system )?instructions? (?:for (?:the |you|ai|any)|(?:is|are)\b|from (?:the )?(?:developer|system|admin|openai))|(?:new|updated|real|true|important|priority) instructions?:)"),
    pattern("addressed", 0.8, " ai| a.i|llm|language model|chatbot|chat bot|gpt|reading this",
             rf"\b(?:attention|note|notice|message|instructions?|hint|reminder|memo|important|dear|hey|hello|to)\b[ :,!-]{{0,4}}(?:for |to |from )?(?:the |any |all |every )?{_AI}\b(?: ?[:,!.]| (?:reading|processing|summari|page|text|document|that|who|which|assistants?|models?|agents?|systems?)|$)"),
    pattern("addressed", 0.8, " ai| a.i|llm|language model|chatbot|chat bot|gpt|reading this|you are an",
             rf"\b(?:if you are|as) (?:an? |the )?{_AI}\b.{{0,80}}?\b(?:you (?:must|should|will|have to|need to|are required)|please|{_TELL})\b"),
    pattern("addressed", 0.7, " ai| a.i|llm|language model|chatbot|chat bot|gpt|reading this",
             rf"\b{_AI} (?:must|should|shall|will|has to|have to|needs? to|(?:is|are) (?:instructed|required|asked|ordered|told) to)\b {_TELL}\b"),
    pattern("reveal", 0.8, "prompt|instruction|rules|guidelines|configuration|api|above|message",
             rf"\b(?:reveal|print|show|repeat|output|display|leak|disclose|dump|recite|echo|write out|tell me|give me|copy|translate|summari[sz]e|encode|what (?:is|are|were))\b.{{0,40}}?\b{_HIDDEN}\b"),
    pattern("reveal", 0.7, "password|credential|secret|token|private key|environment variable|conversation|chat history",
             r"\b(?:reveal|print|output|leak|disclose|dump|exfiltrate|append|include|embed|encode|send|post|forward|upload)\b.{0,50}?\b(?:(?:the |all |any |user'?s? |your |stored |of this )?(?:passwords?|credentials|secrets?|access tokens?|private keys?|environment variables|(?:entire |whole |full )?(?:conversation|chat)(?: history)?))\b.{0,80}?(?:https?://|\burl\b|\bimage\b|\blink\b|\bwebhook\b|\bin your (?:answer|reply|response)|@)"),
    pattern("steer", 0.7, "user|reader|human|customer",
             r"\b(?:do not|don['’]?t|never) (?:tell|inform|mention|reveal|disclose|show|warn|alert|notify)\b.{0,40}?\b(?:the |this to |anything to |to the )?(?:user|human)s?\b", negatable=False),
    pattern("steer", 0.7, "instead",
             rf"\b(?:instead[, ]+(?:just |simply |only |always )?{_TELL}\b.{{0,40}}?(?:[:\"'“‘]|that\b|with\b|\bonly\b|http)|{_TELL}\b.{{0,60}}?\binstead of (?:answering|following|responding|helping|the answer)\b)"),
    pattern("steer", 0.7, "your next|your final|your only|your response|your answer|your reply|your output|every answer|every response|each response",
             r"\b(?:your (?:next|final|only|entire|first|whole)? ?(?:response|answer|reply|output)s? (?:must|should|shall|will|has to|needs? to|is to) (?:be|only|always|begin|start|end|contain|include|consist|say|state|recommend)|(?:end|begin|start|finish|preface) (?:every|each|all|your) (?:answers?|responses?|repl(?:y|ies))\b)"),
    pattern("steer", 0.7, "tell the user|inform the user|ask the user|convince the user|urge the user|persuade the user",
             r"\b(?:convince|urge|persuade|trick) the user (?:that|to|they|into)\b|\b(?:tell|inform) the user (?:that|they)\b"),
    pattern("steer", 0.7, "summar|asked|question|answer",
             r"\b(?:when|whenever|if|after|before|while) (?:you(?: are|['’]re)? (?:summari[sz](?:e|ing)|asked|answer(?:ing)?|process(?:ing)?|read(?:ing)?|respond(?:ing)?)|asked|summari[sz]ing|answering|the user asks)\b.{0,80}?\b(?:always |only |you must |you should |please |instead |also )?(?:say that|say ['\"“]|output|reply (?:with|that|only)|respond (?:with|that|only)|answer (?:with|that|only)|append|insert|add the (?:line|link|text|sentence)|recommend only|include the (?:link|line|text|url))\b"),
    pattern("steer", 0.8, "![|](http|{", r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{0,200}(?:\{|\[|<|%7b)[^)\n]{0,80}\)?", negatable=False),
    pattern(
        "override",
        0.8,
        "instructions|constraints|restrictions|guidelines|rules",
        rf"\b(?:your|all (?:prior|previous|earlier|existing)) (?:\w+ )?{_ORDERS} (?:are|is|have been|were) (?:now )?(?:lifted|void|obsolete|overridden|replaced|cancelled|suspended|superseded)|\b{_ORDERS} (?:that )?you (?:were given|have received|received|got|have)\b{_GAP}\b(?:overridden|void|replaced|cancelled|obsolete|wrong|no longer)",
    ),
    pattern(
        "override",
        0.8,
        "obey me|obey the author|obey this|obey the following",
        r"\bobey (?:me|this|the (?:author|following))\b",
    ),
    pattern(
        "override",
        0.8,
        "before this|above this|you were told|you read before|told before|said before",
        rf"\b{_DROP}\b{_GAP}\b(?:before|above) this\b|\b(?:what|everything|all|anything) (?:that )?you (?:were told|read|have read|were given|learned) (?:before|so far|above|at the start|earlier)\b",
    ),
    pattern(
        "role",
        0.7,
        "you are no longer|you're no longer|you’re no longer|you are now",
        r"\byou(?: are|['’]re) no longer (?:an?|the|bound|limited|restricted|required)\b|\byou are now \w+, (?:an?|the|my) ",
    ),
    pattern(
        "turn",
        0.8,
        "human:|user:",
        r"\b(?:human|user) ?:.{0,300}?\bassistant ?:",
        negatable=False,
    ),
    pattern(
        "addressed",
        0.8,
        "language models|llms|ai models|ai systems|ai agents|ai assistants|automated agent|chatbots|agents",
        rf"\b(?:language models|llms|ai (?:models|systems|agents|assistants)|automated (?:agents?|systems?|assistants?)|chat ?bots)\b.{{0,60}}?\b(?:should|must|shall|has to|have to)\b.{{0,20}}?\b(?:{_TELL}|close|issue|treat|mark|ignore)\b.{{0,40}}?\b(?:only|always|instead|with|refund|accepted|approved|it)\b",
    ),
    pattern(
        "steer",
        0.6,
        "your response|your reply|your answer|your message|your replies|each answer|every response|every answer|each response|each reply|every reply",
        r"\b(?:add|integrate|include|append|insert|modify|enhance|augment|replace|use|apply|mention|hint|suggest|substitute|embed)\b.{0,80}?\b(?:in|to|into|for|with|of|from)? ?your (?:response|reply|answer|message)s?\b|\bin your (?:response|reply|answer),? (?:please )?(?:include|mention|add|suggest|state|promote|refer)\b|\b(?:encrypt|encode|translate|render|reverse|provide|express|shift|write|give|modify|enhance|augment|begin|start|end) (?:each letter in )?your (?:response|reply|answer|message)s?\b|\b(?:every|each) (?:response|answer|reply) (?:must|should|has to|needs to) (?:contain|include|mention|end|begin|start)\b|\b(?:end|begin|start|finish|close) (?:every|each) (?:response|answer|reply) with\b",
    ),
    pattern(
        "steer",
        0.7,
        "before you answer|the question|of answering",
        r"\bbefore you answer\b|\b(?:whatever|regardless of (?:what )?|no matter what) (?:is )?the question\b|\binstead of answering\b|\banswer (?:the|all|every) questions? (?:wrongly|incorrectly|falsely)\b",
    ),
    *dropping("override_de", "ignorier|vergiss|vergess|missacht|ubergeh|beacht|befolg", r"ignorier\w*|vergiss|vergessen sie|missachte\w*|ubergeh\w*|setz\w* dich|(?:beachte|befolge)\w* (?:nicht|keine)", r"anweisung\w*|instruktion\w*|regeln?|vorgaben?|befehle?\w*|prompts?|richtlinien", r"vorherig\w*|vorig\w*|bisherig\w*|obig\w*|fruher\w*|vorangegangen\w*|alle\w*|deine\w*|samtliche\w*|oben"),
    pattern("role_de", 0.8, "du bist|sie sind", r"\b(?:du bist|sie sind) (?:jetzt|nun|ab (?:jetzt|sofort|nun)) (?:ein|eine|der|die|das|kein|mein|frei)|\bab (?:jetzt|sofort|nun) (?:bist du|sind sie|antworte\w*)\b"),
    pattern("reveal_de", 0.8, "prompt|anweisung", r"\b(?:zeig|nenn|gib|verrat|druck|wiederhol)\w*\b.{0,40}?\b(?:system-?\s?prompt|deine (?:anweisungen|instruktionen|regeln)|systemanweisung\w*)"),
    pattern("steer_de", 0.7, "nutzer|benutzer|anwender|ki|sprachmodell", r"\b(?:sag\w* dem (?:be)?nutzer|teil\w* dem (?:be)?nutzer mit|(?:hinweis|nachricht|anweisung) (?:an|fur) (?:die |alle |das )?(?:ki|ki-\w+|sprachmodelle?|assistenten)\b|(?:sag|verrat|erwahn)\w* (?:es )?dem (?:be)?nutzer nicht)"),
    *dropping("override_fr", "ignor|oubli|neglig|contourn|tien", r"ignore[rz]?|oublie[rz]?|neglige[rz]?|contourne[rz]?|ne (?:tiens|tenez) (?:pas|plus) compte", r"instructions?|consignes?|regles?|directives?|ordres?", r"precedent\w*|anterieur\w*|ci-dessus|toutes?|tous|tes|vos|initial\w*"),
    pattern("role_fr", 0.8, "tu es|vous etes|desormais|a partir de maintenant", r"\b(?:tu es|vous etes) (?:maintenant|desormais|a present) (?:un|une|le|la|mon)\b|\b(?:desormais|a partir de maintenant)\W{1,3}(?:tu|vous|reponds|repondez)\b"),
    pattern("reveal_fr", 0.8, "prompt|instructions|consignes", r"\b(?:affiche|revele|montre|donne|repete|imprime)\w*\b.{0,40}?\b(?:prompt systeme|tes (?:instructions|consignes)|vos (?:instructions|consignes))"),
    *dropping("override_es", "ignor|olvid|omit|descart|desobedec|no sig", r"ignora\w*|ignore|olvid\w+|omit[ae]\w*|descart\w+|desobedec\w*|no sigas", r"instruccion\w*|reglas?|indicacion\w*|ordenes|directrices", r"anterior\w*|previas?|previos?|todas?|tus|sus|arriba"),
    pattern("role_es", 0.8, "ahora eres|a partir de ahora|de ahora en adelante", r"\bahora eres (?:un|una|el|la|mi|libre)\b|\b(?:a partir de ahora|de ahora en adelante)\W{1,3}(?:eres|responde|actua|solo|siempre|debes)\b"),
    pattern("reveal_es", 0.8, "prompt|instrucciones", r"\b(?:muestra|revela|imprime|repite|dime|ensena)\w*\b.{0,40}?\b(?:prompt del sistema|tus instrucciones|sus instrucciones)"),
    *dropping("override_it", "ignor|dimentic|trascur|non seguir", r"ignora\w*|dimentica\w*|trascura\w*|non seguire", r"istruzion\w*|regol\w*|indicazion\w*|direttive", r"precedent\w*|tutte|tutti|tue|tuoi|sopra"),
    pattern("role_it", 0.8, "ora sei|adesso sei|d'ora in poi", r"\b(?:ora|adesso) sei (?:un|una|il|la|libero)\b|\bd'ora in (?:poi|avanti)\W{1,3}(?:sei|rispondi|agisci|devi)\b"),
    *dropping("override_pt", "ignor|esque|desconsider", r"ignor[ea]\w*|esquec\w*|desconsider\w*", r"instruc\w*|regras?|ordens|diretrizes", r"anterior\w*|previas?|todas?|suas|tuas|acima"),
    pattern("role_pt", 0.8, "agora voce|agora tu|a partir de agora", r"\bagora (?:voce e|tu es) (?:um|uma|o|a)\b|\ba partir de agora\W{1,3}(?:voce|responda|aja|tu)\b"),
    *dropping("override_nl", "negeer|vergeet", r"negeer|vergeet", r"instructies?|regels?|opdrachten|aanwijzingen", r"vorige|voorgaande|alle|bovenstaande|eerdere|jouw|je"),
    *dropping("override_pl", "ignoruj|zignoruj|zapomnij|pomin", r"z?ignoruj\w*|zapomnij|pomin", r"instrukcj\w*|polece\w*|zasad\w*|regul\w*", r"poprzedni\w*|wszystki\w*|wczesniejsz\w*|powyzsz\w*|swoj\w*"),
    *dropping("override_ru", "игнорир|забуд|не обращай|отмени", r"(?:про)?игнорир\w*|забуд\w*|не обращай\w* внимания|отмени\w*", r"инструкци\w*|правил\w*|указани\w*|команд\w*|подсказк\w*", r"предыдущ\w*|все\w*|прежни\w*|сво\w*|выше\w*|твои\w*"),
    pattern("override_zh", 0.9, "忽略|无视|忽視|無視|忘记|忘記|不要理会", r"(?:忽略|无视|忽視|無視|忘记|忘記|不要理会).{0,15}?(?:指令|指示|提示|规则|規則|要求|命令)", negatable=False),
    pattern("override_ja", 0.9, "無視|忘れ|従わない", r"(?:指示|命令|指令|ルール|プロンプト|規則).{0,12}?(?:無視|忘れ|従わない)", negatable=False),
    pattern("override_ko", 0.9, "무시|잊", r"(?:지시|명령|지침|규칙|프롬프트).{0,40}?(?:무시|잊)", negatable=False),
    *ENGLISH,
    *FOREIGN,
)  # fmt: skip
