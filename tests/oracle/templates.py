"""Chat templates in the styles of the common families, and the conversations that they are rendered with.

Together they use what published templates use: system messages, tools, generation prompts, loops with controls,
namespaces, macros, filters and tests, set blocks, content parts, documents, `generation` blocks, strftime_now and
raise_exception; thoughts that are shown or left out, schemas that are walked through, options such as enable_thinking.
"""

from typing import Any

SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}

TEMPLATES: dict[str, str] = {
    "turns_between_headers": """
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- if system or tools is not none %}
    {{- '<|header|>system<|/header|>\\n\\n' + system }}
    {%- if tools is not none %}
        {{- '\\nCall a function by its JSON.' }}
        {%- for tool in tools %}
            {{- '\\n' ~ (tool | tojson(indent=4)) }}
        {%- endfor %}
    {%- endif %}
    {{- '<|turn|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|header|>ipython<|/header|>\\n\\n' }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- '<|turn|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception('one call at a time') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|header|>assistant<|/header|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- '}<|turn|>' }}
    {%- else %}
        {{- '<|header|>' + message['role'] + '<|/header|>\\n\\n' + message['content'] | trim + '<|turn|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant<|/header|>\\n\\n' }}
{%- endif %}
""",
    "instructions_in_brackets": """
{%- if messages[0]['role'] == 'system' -%}
    {%- set loop_messages = messages[1:] -%}{%- set system_message = messages[0]['content'] -%}
{%- else -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- set ns = namespace(last_user=-1, turn=0) -%}
{%- for message in loop_messages -%}
    {%- if message.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif -%}
{%- endfor -%}
{{ bos_token }}
{%- for message in loop_messages -%}
    {%- if message.role in ['tool', 'tool_results'] -%}
        [RESULT] {{ {"content": message.content, "id": message.tool_call_id | default("none")} | tojson }}[/RESULT]
        {%- continue -%}
    {%- endif -%}
    {%- if (message['role'] == 'user') != (ns.turn % 2 == 0) -%}
        {{ raise_exception('roles must alternate: ' + message['role']) }}
    {%- endif -%}
    {%- set ns.turn = ns.turn + 1 -%}
    {%- if message['role'] == 'user' -%}
        {%- if tools and loop.index0 == ns.last_user -%}
            [TOOLS] [{% for tool in tools %}{{ tool.function | tojson }}{{ ", " if not loop.last else "" -}}
            {% endfor %}][/TOOLS]
        {%- endif -%}
        [INST] {% if loop.first and system_message is defined %}<<{{ system_message }}>> {% endif -%}
        {{ message.content.strip() }} [/INST]
    {%- elif message.tool_calls is defined and message.tool_calls -%}
        {%- generation -%}
        [CALLS] {{ message.tool_calls | map(attribute='function') | list | tojson }}{{ eos_token }}
        {%- endgeneration -%}
    {%- else -%}
        {%- generation %} {{ message.content | trim }}{{ eos_token }}{% endgeneration -%}
    {%- endif -%}
{%- endfor -%}
""",
    "roles_between_marks": """
{%- macro shown(content) -%}
    {%- if content is string -%}{{ content }}
    {%- else -%}
        {%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- shown(messages[0].content) + '\\n\\n' if messages[0].role == 'system' }}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{ '\\n' }}{{ tool | tojson }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\n' ~ shown(messages[0].content) ~ '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}{% continue %}{% endif %}
    {%- if message.role == 'tool' %}
        {%- if loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\\n<result>' ~ shown(message.content) ~ '</result>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.content %}{{ shown(message.content).split('</think>')[-1].lstrip('\\n') }}{% endif %}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function if call.function is defined else call %}
            {{- '<call>{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}{{ '}</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "model_and_user": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- if messages[0]['content'] is string %}{% set first_user_prefix = messages[0]['content'] + '\\n\\n' %}
{%- else %}{% set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' %}{% endif %}
{%- set loop_messages = messages[1:] %}
{%- else %}{% set first_user_prefix = '' %}{% set loop_messages = messages %}{% endif %}
{%- for message in loop_messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start>' + role }}
{{ first_user_prefix if loop.first }}
{%- if message['content'] is string %}{{ message['content'] | trim }}
{%- elif message['content'] is iterable %}
{%- for item in message['content'] %}{% if item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}
{%- endif %}<end>
{%- endfor %}
{% if add_generation_prompt %}<start>model
{% endif %}""",
    "documents_and_blocks": """{% set preamble %}
Answer{% if documents %} from these {{ documents | length }}{% endif %}.{% endset %}
{{ preamble | upper }}
{% for document in documents or [] | sort(attribute='title') %}
{{ loop.index }} of {{ loop.length }}: {{ document.title | title }}
{{ document.text | replace('\\n', ' ') | truncate(20) }}
{% else %}
nothing to read
{% endfor %}
{% for message in messages %}
{% if message.role == 'tool' %}{% break %}{% endif %}
{{ '%-9s' | format(message.role) }}|
{{- message.content if message.content is string else message.content | map(attribute='text') | join(' ') }}
{% endfor %}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages[-1].get('name', 'nameless') }}
{{- ' ' ~ (messages | map(attribute='role') | unique | list) ~ ' ' ~ {'a': [1, 2.5, none, true], 'é': '<&>'} | tojson }}
{{ range(3) | sum }} {{ 7 // 2 }} {{ 2 ** 5 }} {{ 'x' * 3 }} {{ -3 | abs }} {{ [3, 1] | first }}
{{ 'a,b'.split(',') | last | capitalize }}
""",
    "thoughts_and_schemas": """
{%- macro typed(schema, depth=0, end=';') -%}
    {%- if schema is boolean or schema.type is undefined -%}any
    {%- elif schema.type is sequence and schema.type is not string -%}
        {{ schema.type | reject('eq', 'null') | join('|') }}
    {%- elif schema.type | upper == 'OBJECT' -%}
        { {% for name, inner in schema.properties | dictsort -%}
            {{ name | lower }}{{ '?' if name not in schema.required | default([]) }}: {{ typed(inner, depth + 1) }}
        {%- endfor %} }
    {%- elif schema.type.startswith('arr') -%}{{ typed(schema['items'], depth=depth, end='') }}[]
    {%- else -%}{{ schema.type.capitalize() }}
    {%- endif -%}
    {{ end if depth else '' }}
{%- endmacro -%}
{%- macro turn(role) -%}
    <{{ role.upper() }}>{{ caller(role | length) | indent(2) }}</{{ role | string | safe }}>
{% endmacro -%}
{%- set ns = namespace(last=-1, thinks=true) -%}
{%- for message in messages[::-1] -%}
    {%- set index = (messages | length - 1) - loop.index0 -%}
    {%- if ns.last < 0 and message.role == 'user' %}{% set ns.last = index %}{% endif -%}
{%- endfor -%}
{%- for tool in tools or [] -%}
    {%- for key, value in tool.function.items() if key.endswith('ers') -%}{{ key }} {{ typed(value) }}
    {%- endfor -%}
    {%- for key, value in tool | items %} {{ key }}={{ value | string | length }}{% endfor %}
{% endfor -%}
{%- for message in messages -%}
    {%- set thoughts = '' -%}
    {%- if message.reasoning_content is string %}{% set thoughts = message.reasoning_content %}
    {%- elif message.content is string and '</think>' in message.content -%}
        {%- set thoughts = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {%- call(length) turn(message.role) -%}
        {%- if thoughts and (loop.index0 > ns.last or show_thoughts is true) %}<think>{{ thoughts }}</think>
{{ length }}{% endif -%}
        {%- filter trim %} {{ (message.content or '').split('</think>')[-1] }} {% endfilter -%}
        {%- for call in message.tool_calls | default([], true) | rejectattr('function', 'none') -%}
            {%- for name, value in call.function.arguments | items %} {{ name }}={{ value | string }}{% endfor -%}
        {%- endfor -%}
    {%- endcall -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <assistant>{{ '<think></think>' if enable_thinking is defined and enable_thinking is false else '<think>' }}
    {{- ' for ' ~ (thinking_budget | int + 1) if thinking_budget }}
{%- endif -%}
""",
    "the_date": """{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif -%}
Today is {{ date_string }}. {{ strftime_now('100%%') }}
{% for message in messages %}{{ message.role }}.{% endfor %}""",
}
"""Source by name. Of `the_date`, what the clock says is compared only where both engines read it at once."""

ASK = {"role": "user", "content": " What is the weather in Zürich? "}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}}},
    ],
}
RESULT = {"role": "tool", "content": '{"degrees": -3.5}', "tool_call_id": "call12345"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f'Says "{name}" <of> a city & more.',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "array", "items": {"type": ["integer", "null"]}},
                },
                "required": ["city"],
            },
        },
    }
    for name in ("weather", "time")
]
DOCUMENTS = [{"title": "on snow", "text": "It is\ncold and white, and falls."}, {"title": "ice", "text": "Hard."}]
SYSTEM = {"role": "system", "content": "Be brief. "}

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one_question": {"messages": [ASK], "add_generation_prompt": True},
    "system_and_answer": {
        "messages": [SYSTEM, ASK, {"role": "assistant", "content": "<think>hm</think>\nCold.\n"}, ASK],
        "add_generation_prompt": True,
    },
    "no_generation_prompt": {
        "messages": [ASK, {"role": "assistant", "content": "Cold."}],
        "add_generation_prompt": False,
    },
    "tools": {"messages": [SYSTEM, ASK], "tools": TOOLS, "add_generation_prompt": True},
    "a_call_and_its_result": {
        "messages": [ASK, CALL, RESULT, {**RESULT, "content": "second"}],
        "tools": TOOLS,
        "add_generation_prompt": True,
    },
    "parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}],
        "add_generation_prompt": True,
    },
    "documents": {"messages": [{**ASK, "name": "ada"}], "documents": DOCUMENTS, "add_generation_prompt": False},
    "thoughts": {
        "messages": [ASK, {"role": "assistant", "content": "Cold.", "reasoning_content": "Snow?\n"}, ASK],
        "show_thoughts": True,
        "add_generation_prompt": True,
    },
    "thoughts_by_another_name": {
        "messages": [ASK, {**CALL, "reasoning": "I look."}, RESULT],
        "tools": TOOLS,
        "add_generation_prompt": True,
    },
    "no_thinking": {"messages": [ASK], "enable_thinking": False, "add_generation_prompt": True},
    "little_thinking": {
        "messages": [ASK],
        "enable_thinking": True,
        "thinking_budget": 511,
        "add_generation_prompt": True,
    },
    "gone_on_with": {
        "messages": [ASK, {"role": "assistant", "content": "It is "}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "two_users_in_a_row": {"messages": [ASK, ASK], "add_generation_prompt": True},
    "two_calls": {
        "messages": [ASK, {**CALL, "tool_calls": 2 * CALL["tool_calls"]}],
        "tools": TOOLS,
        "add_generation_prompt": False,
    },
}
