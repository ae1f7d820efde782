#!/usr/bin/env python3
"""Writes expressions.json: what transformers renders for each of the templates below.

    python generate.py     (with transformers and jinja2 installed)

A template that transformers refuses has "error" in place of "rendered".
"""
import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [{"role": "user", "content": "Review: a \"good\" film & <b>it's</b> Sentiment:"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# One template on each line; \n stands for a line end, \r for a carriage return.
TEMPLATES = r"""
{{ messages[0].content }}
{{ messages[0]['content'] | tojson }}
{{ messages | tojson }}
{{ messages[0] | tojson(indent=2) }}
{{ messages[0] | tojson(indent=4, sort_keys=true) }}
{{ {'b': [1, 2.5, none], 'a': {'x': true, 'y': {}}, 'c': []} | tojson(indent=2) }}
{{ {'b': 1, 'a': 2} | tojson(sort_keys=True) }}
{{ {'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':')) }}
{{ {'b': 1, 'a': [1, 2]} | tojson(indent=1, separators=(', ', ' = ')) }}
{{ 'Zürich 🙂 \u2028 \x7f' | tojson }}
{{ 'Zürich 🙂 \x7f' | tojson(ensure_ascii=True) }}
{{ '</script> & \' " \\ / \n\t\b\f\x01' | tojson }}
{{ {1: 'a', none: 'b', true: 'c', 2.5: 'd'} | tojson }}
{{ 1e20 | tojson }} {{ 0.1 | tojson }} {{ -0.0 | tojson }} {{ 100000000000000000000 | tojson }}
{{ (1, 'a') | tojson }} {{ [[], {}, ''] | tojson(indent=3) }} {{ 'a' | tojson(indent='\t') }}
{{ undefined_thing | tojson }}
{{ true }} {{ false }} {{ none }} {{ True }} {{ None }}
{{ 1.0 }} {{ 1.5 }} {{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.5e300 }} {{ 1e-7 }} {{ 123456789.123 }}
{{ 3 / 2 }} {{ 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 7.5 // 2 }}
{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ -2 ** 2 }} {{ 2 * 3 % 4 }} {{ 2 + 3 % 4 * 5 }} {{ 10 - 3 - 2 }} {{ 10 - 3 + 2 }}
{{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 0o17 }} {{ 1_0.5 }} {{ 1e3 }}
{{ [1, 'a', none, true, 1.0, (1,), (1, 2), {'a': "it's", 'b': 'say "x"'}, []] }}
{{ {'a': {'b': [1]}} }} {{ () }} {{ ('a', 2) }} {{ ['\n', '\\', 'é', '\x00', '\u200b', "'\""] }}
{{ range(3) }} {{ range(1, 10, 3) }} {{ range(3) | list }} {{ range(5, 0, -2) | list }} {{ range(3) | length }} {{ 2 in range(3) }} {{ range(5)[1] }} {{ range(5)[-1] }}
{{ messages[0].items() }} {{ messages[0].keys() }} {{ messages[0].values() | list }} {{ messages[0].items() | list | length }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] ~ undefined_thing }}
{{ 'a' ~ 'b' + 'c' ~ 'd' }} {{ 2 * 3 ~ 4 * 5 }} {{ 'x' ~ -1 }} {{ - 1 ~ 'x' }} {{ 'a' + 2 ~ 3 }}
{{ 1 + 2 ~ 3 }}
{{ '%s is %d years and %.2f' % ('Ann', 7, 1.005) }} {{ '%s' % 'x' }} {{ '%s' % 1.0 }} {{ '%5d|%-5d|%05d|%+d' % (1, 2, 3, 4) }}
{{ '%(a)s-%(b)s' % {'a': 1, 'b': 'x'} }} {{ '100%%' % () }} {{ '%x %X %o %e %g %c' % (255, 255, 8, 12345.678, 0.0001, 'z') }} {{ '%r %r' % ('a', 1) }}
{{ '%s %s' % ['a', 'b'] }}
{{ '%s' % [1, 'a'] }} {{ '%s' % none }} {{ '%5s|%-5s|%.2s' % ('a', 'b', 'cde') }} {{ 'a' + '%s' % 'b' ~ 'c' }} {{ '%d' % 3.7 }} {{ '%d' % true }}
{{ '%s, %s!' | format('Hi', 'you') }} {{ '%(n)s' | format(n=3) }}
{{ '<a href="x">it\'s & more</a>' | escape }} {{ '<' | e }} {{ '<b>' | safe }} {{ ('<' | e) ~ '<' }} {{ ('<' | e) + '<' }} {{ '<' + ('<b>' | safe) }} {{ '<' | e | e }} {{ '<' | e | forceescape }}
{{ ('<b>' | safe) | length }} {{ ('<' | e) == '&lt;' }} {{ ('<b>' | safe) | upper }} {{ ('<b>' | safe) is string }} {{ 5 | e }} {{ none | e }}
{{ none is iterable }} {{ 'abc' is iterable }} {{ [] is iterable }} {{ {} is iterable }} {{ 1 is iterable }} {{ undefined_thing is iterable }} {{ range(2) is iterable }} {{ tools is iterable }}
{{ none is sequence }} {{ 'abc' is sequence }} {{ [] is sequence }} {{ {} is sequence }} {{ 1 is sequence }} {{ undefined_thing is sequence }} {{ (1,) is sequence }} {{ messages[0:1] is sequence }} {{ range(2) is sequence }} {{ messages | map(attribute='role') is sequence }}
{{ none is mapping }} {{ 'abc' is mapping }} {{ {} is mapping }} {{ messages[0] is mapping }} {{ namespace(a=1) is mapping }} {{ [] is mapping }}
{{ none is none }} {{ undefined_thing is none }} {{ none is defined }} {{ undefined_thing is defined }} {{ tools is none }} {{ tools is not none }} {{ tools is defined }} {{ messages[0].name is defined }} {{ bos_token is defined }} {{ pad_token is defined }}
{{ none is string }} {{ 'a' is string }} {{ 1 is string }} {{ 1 is number }} {{ true is number }} {{ 1.0 is number }} {{ none is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ none is boolean }} {{ 0 is boolean }} {{ true is true }} {{ 1 is true }} {{ none is false }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is ne 2 }} {{ 2 is gt 1 }} {{ 1 is in [1, 2] }} {{ 3 is not in [1, 2] }} {{ 'a' is sameas 'a' }} {{ none is sameas none }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ range is callable }} {{ 'x' is callable }} {{ raise_exception is callable }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abcabc'.startswith('abc', 3) }} {{ 'abc'.endswith('b', 0, 2) }}
{{ 'a,b,c,d'.split(',') }} {{ 'a,b,c,d'.split(',', 1) }} {{ 'a,b,c'.split(',')[-1] }} {{ ' a  b '.split() }} {{ ' a  b  c '.split(none, 1) }} {{ 'a b c'.split(maxsplit=1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a  b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a--b'.split('-') }} {{ 'a,b'.split(sep=',') }}
{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '\x1fa\x1c'.strip() }}|{{ 'abcba'.lstrip('ab') }}|{{ 'abcba'.rstrip('ab') }}|{{ ' a\u00a0'.rstrip() }}|{{ '\n a \n'.strip('\n') }}|{{ ' a '.strip(none) }}
{{ "it's a dog's life".title() }} {{ "it's a dog's life" | title }} {{ 'hELLO wORLD'.capitalize() }} {{ 'hELLO' | capitalize }} {{ 'x-y (z)' | title }} {{ 'ß'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'aB'.swapcase() }} {{ 'hello3world'.title() }}
{{ 'a-b'.replace('-', '+') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') }} {{ 5 | replace(5, 6) }}
{{ 'abcabc'.find('c') }} {{ 'abc'.find('x') }} {{ 'éab'.find('b') }} {{ 'abcabc'.rfind('c') }} {{ 'abcabc'.index('b') }} {{ 'aXbX'.count('X') }} {{ 'abcabc'.find('c', 3) }}
{{ ', '.join(['a', 'b']) }} {{ '-'.join('abc') }} {{ '{} and {}'.format('a', 1) }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{a}'.format(a=3) }} {{ '{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c') }} {{ '{:.2f}'.format(1.005) }}
{{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ ''.isdigit() }} {{ 'é'.isalpha() }} {{ 'Ab'.isupper() }} {{ 'AB1'.isupper() }} {{ 'Title Case'.istitle() }} {{ 'a'.isascii() }} {{ '-1'.isnumeric() }}
{{ 'a\nb\r\nc\x0bd\u2028e'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }}
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ 'a'.center(4) }}| {{ 'ab'.center(5) }}| {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '.') }} {{ '-5'.zfill(4) }} {{ '5'.zfill(3) }}
{{ [1, 2, 1].count(1) }} {{ [1, 2, 3].index(3) }} {{ (1, 2).index(2) }} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b') }} {{ {'a': 1}.get('b', 'x') }} {{ {'a': none}.get('a', 'x') }} {{ messages[0].get('role') }} {{ {'a': 1}.copy() }}
{{ [1].append(2) }}
{{ {'a': 1}.update({'b': 2}) }}
{{ 'abcdef'[1:3] }} {{ 'abcdef'[-2:] }} {{ 'abcdef'[::-1] }} {{ 'abcdef'[::2] }} {{ [1, 2, 3][1:] }} {{ [1, 2, 3][:-1] }} {{ [1, 2, 3][-1] }} {{ [1, 2, 3][::-1] }} {{ (1, 2, 3)[1:] }} {{ 'éàü'[1] }} {{ 'abc'[-1] }} {{ [1, 2, 3][5:] }} {{ messages[-1].role }} {{ messages[1:] | length }} {{ 'abc'[10] }}|{{ [1, 2, 3, 4][1:-1] }}
{% set ns = namespace(a=1, b='x') %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ ns.b }} {{ ns.c is defined }} {% set ns.c = [1] + [2] %}{{ ns.c }} {% set n = namespace(a=1) %}{{ n }}
{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }} {% if true %}{% set x = 5 %}{% endif %}{{ x }}
{% macro greet(name, sep=', ') %}Hi{{ sep }}{{ name }}{% endmacro %}{{ greet('Ann') }} {{ greet('Bob', sep='-') }} {{ greet(name='C') }} {{ greet() }}
{% macro show(x) -%}  [{{ x }}]  {%- endmacro %}{{ show(1) ~ show('a') }} {{ show(none) | upper }} {{ show([1, 'b']) }}
{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% macro wrap() %}<{{ caller('x') }}>{% endmacro %}{% call(v) wrap() %}{{ v }}!{% endcall %}
{% for a in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}
{% for a in [1, 1, 2] %}{{ loop.changed(a) }}{{ loop.cycle('x', 'y') }}{{ loop.depth }}{% if loop.previtem is defined %}p{% endif %} {% endfor %}
{% for a in [1, 2, 3, 4] if a % 2 == 0 %}{{ a }}{{ loop.index }}{% else %}none{% endfor %}{% for a in [] %}x{% else %}empty{% endfor %}
{% for a in [1, 2, 3, 4] %}{% if a == 2 %}{% continue %}{% endif %}{% if a == 4 %}{% break %}{% endif %}{{ a }}{% endfor %}
{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'z': 1, 'a': 2} %}{{ k }}{% endfor %}{% for k, v in {'z': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}{% for k, v in {'z': 1, 'a': 2} | items %}{{ k }}{{ v }}{% endfor %}
{% for c in 'abc' %}{{ c }}-{% endfor %}{{ 'abc' | list }} {{ 'abc' | first }} {{ 'abc' | last }} {{ 'abc' | reverse }} {{ 'abc' | join('-') }}
{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}
{{ ['a', 'b'] | join(', ') }} {{ [1, none, true, 1.0] | join('|') }} {{ messages | join('+', attribute='role') }} {{ [{'a': {'b': 1}}, {'a': {'b': 2}}] | join('/', attribute='a.b') }} {{ [] | join }}|{{ ('a', 'b') | join(d='-') }}
{{ messages | map(attribute='role') | list }} {{ ['a', 'b'] | map('upper') | join }} {{ [1, 2] | map('string') | list }} {{ [{'a': 1}, {}] | map(attribute='a', default='x') | list }} {{ [' a '] | map('trim') | list }} {{ ['a'] | map('replace', 'a', 'b') | list }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', '==', 'user') | list }} {{ [0, 1, none] | select | list }} {{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('gt', 1) | list }} {{ [{'a': none}, {'a': 1}] | selectattr('a') | list }} {{ [{'a': 1}, {}] | selectattr('a', 'defined') | list }} {{ ['a', 1] | select('string') | list }} {{ messages | selectattr('role', 'in', ['user', 'x']) | map(attribute='role') | first }}
{% if messages | selectattr('role', 'equalto', 'system') %}truthy{% else %}falsy{% endif %} {% if messages | selectattr('role', 'equalto', 'system') | list %}truthy{% else %}falsy{% endif %}
{% set g = [1, 2] | map('string') %}{{ g | list }}{{ g | list }} {% for x in [1, 2] | map('string') %}{{ loop.length }}{{ loop.last }}{{ x }}{% endfor %}
{{ undefined_thing | default('x') }} {{ none | default('x') }} {{ none | default('x', true) }} {{ '' | default('x', boolean=true) }} {{ 0 | d('x', true) }} {{ undefined_thing | default }}|{{ messages[0].name | default('anon') }} {{ undefined_thing.foo | default('x') if undefined_thing is defined else 'u' }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A'] | sort(case_sensitive=true) }} {{ [1, 2] | sort(reverse=true) }} {{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }} {{ [1, 1, 2] | unique | list }} {{ [1, 2] | sum }} {{ [{'a': 2}, {'a': 1}] | sum(attribute='a') }} {{ [1, 5] | min }} {{ [1, 5] | max }} {{ [1, 2, 3] | reverse | list }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(2) | list }} {{ [1, 2] | first }} {{ [1, 2] | last }} {{ [] | first }}|{{ [1, 2] | length }} {{ 'abc' | length }} {{ {'a': 1} | count }} {{ 'éà' | length }} {{ undefined_thing | length }}
{{ 2.5 | round }} {{ 2.567 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ 3 | round }} {{ -3 | abs }} {{ 1.5 | abs }} {{ '12' | int }} {{ 'abc' | int }} {{ 'abc' | int(7) }} {{ '1.9' | int }} {{ '0x1f' | int(base=16) }} {{ none | int }} {{ 3.9 | int }} {{ ' 5 ' | int }} {{ '1.5' | float }} {{ 'x' | float }} {{ 'x' | float(2.5) }} {{ true | int }} {{ 1 | float }}
{{ 'a\nb\n\nc' | indent }}| {{ 'a\nb' | indent(2) }}| {{ 'a\nb' | indent(2, true) }}| {{ 'a\n\nb' | indent(2, blank=true) }}| {{ 'a\nb' | indent('> ', first=true) }}| {{ 'a\nb\n' | indent(width=2) }}|
{{ '  a ' | trim }}| {{ 'xax' | trim('x') }}| {{ ' a b ' | trim(' ') }}| {{ 5 | trim }} {{ none | trim }} {{ 'Ab' | upper }} {{ 'Ab' | lower }} {{ 1 | string }} {{ none | string }} {{ 1.0 | string + 'x' }} {{ [1, 'a'] | string }} {{ true | string | lower }}
{{ 'a few words here' | wordcount }} {{ 'abcdefghijklmnop' | truncate(5, true) }} {{ 'a long sentence of words' | truncate(12) }} {{ 'a long sentence' | truncate(10, end='!', leeway=0) }} {{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 3}] | groupby('a') | list | length }} {% for k, g in [{'a': 1, 'b': 2}, {'a': 1, 'b': 3}] | groupby('a') %}{{ k }}{{ g }}{% endfor %}
{{ 'yes' if messages else 'no' }} {{ 'yes' if tools }}|{{ 'a' if false else 'b' if true else 'c' }} {{ not true }} {{ not none and 1 }} {{ none or 'x' }} {{ 0 or '' or 'z' }} {{ 1 and 'y' }} {{ [] and 1 }} {{ 'a' == 'a' and 1 != 2 }} {{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ none == false }} {{ [1] == [1] }} {{ (1,) == [1] }} {{ {'a': 1} == {'a': 1} }} {{ undefined_thing == none }}
{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 'role' in messages[0] }} {{ 1 in [1, 2] }} {{ 'a' in {'a': 1} }} {{ none in [none] }} {{ 'b' in ('a', 'b') }} {{ not 'a' in 'b' }} {{ 1 in {1: 2}.keys() }}
{{ [1] + [2] }} {{ (1,) + (2,) }} {{ [1] * 3 }} {{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ 'a' * 0 }}|{{ 'a' * -1 }}|{{ true + 1 }} {{ 1 + 1.5 }} {{ -(1) }} {{ +1 }} {{ 5 - -3 }} {{ 2 - 3 }} {{ 1 - 2 + 3 - 4 }} {{ 'a' + 'b' * 2 + 'c' }}
{{ 'a' 'b' "c" }} {{ 'it\'s' }} {{ "a\"b" }} {{ 'a\\n' }} {{ '\x41\u00e9\101\0' | tojson }} {{ '\d\/' }} {{ 'a\tb\nc' }} {{ "'" }} {{ '{{ }}' }} {{ '{%' ~ '%}' }} {{ '#}' }} {{ '\U0001F642' }} {{ '\a\v' | tojson }}
{{ {'a': 1}['a'] }} {{ {'a': 1}.a }} {{ {'a': 1}.b }}|{{ {'items': 5}['items'] }} {{ {1: 'x'}[1] }} {{ [[1, 2], [3]][0][1] }} {{ {'a': {'b': 'c'}}.a.b }} {{ messages.0.role }} {{ messages[0]["role"] }} {{ dict([('x', 1), ('a', 2)]) }}
{{ {**{'a': 1}} }}
{{ dict(b=1, a=2) }}
{{ dict({'x': 1}, y=2, b=3) }}
{{ dict(a=1).a }} {{ dict({'x': 1}, y=2) }} {{ {'b': 1, 'a': 2, 'b': 3} }} {{ {'b': 1, 'a': 2,} | list }} {{ {'b': 1, 'a': 2} | items | list }} {{ {'b': 1, 'a': 2}.values() | list }} {{ {'a': 1, 'b': 2} | length }} {{ {} }} {{ {'a': [1, {'b': (1, 2)}]} }}
{% set x %}  block {{ 1 }}  {% endset %}[{{ x }}] {% set y | upper %}abc{% endset %}{{ y }} {% filter upper %}abc{{ 'd' }}{% endfilter %} {% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set t = 1, 2 %}{{ t }} {% set c = (3) %}{{ c }} {% set d = 'x' if a == 1 else 'y' %}{{ d }} {% set e = 'y' + b ~ 'z' %}{{ e }}
{% raw %}{{ not rendered }} {% if %}{% endraw %} {# a comment {{ x }} #}|{%- raw -%}  {{ x }}  {%- endraw -%}  |
{% if false %}a{% elif 1 == 2 %}b{% elif true %}c{% else %}d{% endif %}\n{% if true -%}   x   {%- endif %}\n   {% if true %}y{% endif %}\n  {%- if true %} z {% endif -%}  \n end
a\n  {% if true %}\n  b\n  {% endif %}\nc\n  {{ 'd' }}\n  {# e #}\n  f {% if true %} g {% endif %}\nh\n
a\r\n{% if true %}\r\n  b{{ 'c\r\nd' }}\r\n{% endif %}\r\ne\r\n{%- if true -%}\r\nf\r\n{% endif -%}\r\n{{ messages[0].role }}\r\n
a\r{{ 1 }}\r{%- if true %}\rb{% endif %}\r\r
    {%+ if true %}x{% endif %}\n  {% if true +%}\n y{% endif %}\n
{%- for m in messages -%}\n<|im_start|>{{ m.role }}\n{% generation %}\n  {{ m.content }}\n{% endgeneration %}\n<|im_end|>{%- endfor %}\n
{% set v = 1 %}{% generation %}{% set v = 2 %}{{ v }}{% endgeneration %}{{ v }} {%- generation -%}  x  {%- endgeneration -%}  |
{{ '{% generation %}' }} {# {% generation %} #}{% raw %}{% generation %}{% endraw %}
{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endfor %}{{ eos_token }}
{{ raise_exception('no') }}
{{ undefined_thing.attribute }}
{{ undefined_thing + 'a' }}
{{ 'a' + 1 }}
{{ none + 'a' }}
{{ unknown_function() }}
{{ 'a' | unknown_filter }}
{{ 1 is unknown_test }}
{{ messages[0].content.unknown() }}
{% include 'x' %}
{% do 1 %}
{{ messages | map(attribute='role') | length }}
{{ 'a' is sameas 'b' }} {{ messages is sameas messages }} {{ [1] is sameas [1] }} {{ 1 is sameas true }} {{ true is sameas true }}
{%- set loop_messages = messages[1:] if messages[0]['role'] == 'system' else messages -%}{{ loop_messages | length }}{%- set content = (messages[0].content if messages[0].content is string else messages[0].content[0].text) -%}{{ content | length }}
{%- if tools is iterable and tools | length > 0 %}tools{% else %}no tools{% endif %}
{%- if tools is not none and tools is iterable and tools is not mapping and tools is not string %}tools{% else %}no tools{% endif %} {% if not tools is defined %}a{% elif not tools %}b{% endif %}
{{ messages[0].content.split('Review:')[-1].split('Sentiment')[0].strip() }} {{ 'think</think>answer'.split('</think>')[-1].lstrip('\n') }} {{ ('a' in messages[0].content) | string | upper }}
{{ "a" ~ ("b" if messages[0].name is defined else "c") ~ ["x", "y"][0] ~ {"k": 1}["k"] ~ (1 + 2) * 3 }} {{ (messages | length) % 2 }} {{ (loop is defined) }} {{ -messages | length if false else 1 }}
{{ '\u00e9' }} {{ 'é' | upper }} {{ 'ab'|upper|lower|title }} {{ ('a', 'b')|join }} {{ 'x'|default('y')|upper ~ 'z' }} {{ 'a'|upper + 'b'|upper }} {{ 2|string * 2 }} {{ '%s' % 'a'|upper }}
{{ 10 % 3 % 2 }} {{ 10 * 3 % 4 * 2 }} {{ '%s-%s' % ('a', '%d' % 3) }} {{ ('%s' % 'q') * 2 }} {{ 7 % -3 }} {{ 2 ** 3 % 3 }} {{ 'n: %d' % 3 + '!' }} {{ 'n: %s' % (1 + 2) }} {{ 5 % 3 == 2 and 4 % 2 == 0 }} {{ [4 % 3, 5 % 3] }} {{ {'a': 7 % 4}.a }} {{ 'abc'[4 % 3:] }}
{{ 1e400 }}
{{ 12345678901234567890 + 1 }} {{ 2 ** 62 * 2 }} {{ 9007199254740993 }} {{ 0.1 + 0.2 }} {{ 1 / 3 }} {{ 100 * 1.1 }} {{ 1e22 }} {{ 123456789012345678 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}
{{ strftime_now is defined }} {{ namespace is defined }} {{ joiner is defined }} {{ cycler is defined }}
{%- set sep = joiner(', ') -%}{% for x in [1, 2] %}{{ sep() }}{{ x }}{% endfor %}
{%- set c = cycler('a', 'b') -%}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}
{% if x is not defined %}{% set x = 'd' %}{% endif %}{{ x }}{{ y if y is defined and y else 'n' }}{{ (y is defined and y) or 'o' }}
{{ messages[0]['content'][:7] + '...' if messages[0]['content']|length > 7 else messages[0]['content'] }}
{{ ["<s>", "</s>"] | join("") | replace("<", "[") }} {{ (["a"] + ["b"]) | join("\n") }} {{ ("a\n\n\nb" | replace("\n\n", "\n")).strip() }}
"""


def main():
    cases = []
    for line in TEMPLATES.strip().split("\n"):
        # Line ends outside of quotes are written as \n and \r; inside, Jinja reads them itself.
        template = unescaped(line)
        case = {"template": template}
        try:
            rendered, _ = render_jinja_template(
                conversations=[MESSAGES], chat_template=template, add_generation_prompt=True, **TOKENS
            )
            case["rendered"] = rendered[0]
            if "generator object" in rendered[0] or " at 0x" in rendered[0]:
                raise SystemExit(f"names an address: {line}")
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            case["error"] = f"{type(error).__name__}: {error}"
        cases.append(case)
    made_with = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    table = {"made_with": made_with, "messages": MESSAGES, "tokens": TOKENS, "cases": cases}
    text = json.dumps(table, ensure_ascii=True, indent=1)
    Path(__file__).with_name("expressions.json").write_text(text + "\n")


def unescaped(line):
    """Turns backslash n and r into line ends where they stand outside of a tag."""
    written, rest = "", line
    while rest:
        at = min((i for i in (rest.find("{{"), rest.find("{%"), rest.find("{#")) if i >= 0), default=len(rest))
        written += rest[:at].replace("\\r", "\r").replace("\\n", "\n")
        rest = rest[at:]
        if rest:
            closer = {"{{": "}}", "{%": "%}", "{#": "#}"}[rest[:2]]
            end = end_of_tag(rest, closer)
            written, rest = written + rest[:end], rest[end:]
    return written


def end_of_tag(text, closer):
    quote, depth, i = None, 0, 2
    while i < len(text):
        c = text[i]
        if quote:
            i += c == "\\"
            quote = None if c == quote else quote
        elif c in "'\"" and closer != "#}":
            quote = c
        elif text.startswith(closer, i) and depth == 0:
            return i + 2
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        i += 1
    return len(text)


if __name__ == "__main__":
    main()
