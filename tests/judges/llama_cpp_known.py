"""Which of llama.cpp's server tests cannot pass here, and why: by file and test, * for all other ones of a file.

A name is that of a test function, or of one of its cases. A reason that begins with "some" is of tests of which some
pass.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = "it names the text, the token counts and the fingerprint of llama.cpp's own model"
_OWN: Final = "it is a parameter or a field of llama.cpp's own"
_ROUTE: Final = "it is a path of llama.cpp's own"
_IDS: Final = "embed takes texts: token ids and mixed prompts are a 400"
_PROCESS: Final = "it starts and configures llama-server itself"
_COMPLETION: Final = "it asks /completion, llama.cpp's own form, or names the text of its own model"

KNOWN: Final[dict[str, dict[str, str]]] = {
    "test_chat_completion.py": {
        "test_chat_completion": _TEXT,
        "test_chat_completion_cached_tokens": _TEXT,
        "test_chat_completion_stream": _TEXT,
        "test_chat_completion_with_openai_library": _TEXT,
        "test_chat_template": f"{_OWN} (__verbose, a template by option)",
        "test_chat_template_assistant_prefill": f"{_OWN} (__verbose); a last message of the assistant is not continued",
        "test_chat_template_continue_final_message_vllm_compat": f"{_OWN} (__verbose, continue_final_message)",
        "test_apply_chat_template": _ROUTE,
        'test_completion_with_response_format[response_format1-10-[ -3000 ]]': _TEXT,
        "test_invalid_chat_completion_req[messages7]": "two messages of the assistant in a row are fine here",
        "test_chat_completion_with_timings_per_token": f"{_OWN} (timings_per_token)",
        "test_context_size_exceeded": "the conversation fits this model's context; one that does not is OpenAI's 400",
        "test_context_size_exceeded_stream": "the same, as a stream",
        "test_return_progress": f"{_OWN} (return_progress)",
        "test_chat_completions_multiple_choices": f"{_OWN} (id_slot); n is tested by tests/integration/test_gateway.py",
        "test_chat_completions_token_count": _ROUTE,
        "test_verbose_debug": f"{_OWN} (verbose)",
    },
    "test_embedding.py": {
        "test_embedding_multiple_with_fa": "a text has 258 tokens, this model reads 256: a 400, nothing is cut",
        "test_embedding_mixed_input": f"some cases: {_IDS}; an empty text is a 400, as at OpenAI",
        "test_embedding_content_text_same_as_string": f"{_OWN} (content parts)",
        "test_embedding_pooling_none": _ROUTE,
        "test_embedding_pooling_none_oai": f"{_PROCESS} (--pooling none)",
    },
    "test_security.py": {
        "test_access_static_assets_without_api_key": "these are files of llama.cpp's own page",
        "test_correct_api_key": f"{_ROUTE} (/completions with content)",
        "test_correct_api_key_anthropic_header": f"{_ROUTE} (/completions with content)",
        "test_cors_options[web.mydomain.fr-Access-Control-Allow-Headers-*]":
            "headers are named one by one: browsers do not take a star for Authorization",
        "test_cors_origins_localhost_rejects": f"{_PROCESS} (--cors-origins)",
        "test_cors_origins_defaults_to_localhost_with_tools_enabled": f"{_PROCESS} (--tools)",
        "test_cors_proxy_only_forwards_explicit_proxy_headers": _ROUTE,
        "test_local_media_file": "images are a 400 here, and it sends no key, which is a 401",
    },
    "test_basic.py": {"*": f"some: {_ROUTE} (/props, /slots, /models), or {_PROCESS}"},
    "test_compat_anthropic.py": {
        "test_anthropic_tool_result_with_image": "images are a clear 400, where llama-server says 500",
        "test_anthropic_vision_format_accepted": "images are a clear 400, where llama-server says 500",
        "test_anthropic_vision_base64_with_multimodal_model": "images are not taken",
        "test_anthropic_empty_messages": "no message is a 400, as at Anthropic",
        "test_anthropic_thinking": "thinking is not made: a 400",
        "test_anthropic_thinking_history_in_template": _ROUTE,
        "test_anthropic_thinking_history_in_count_tokens": "thinking of earlier messages is left out of the prompt",
        "test_anthropic_thinking_with_reasoning_model": "thinking is not made: a 400",
    },
    "test_compat_gcp.py": {"*": f"{_ROUTE} (/predict)"},
    "test_compat_oai_responses.py": {"*": f"some: {_TEXT}; {_ROUTE} (/responses)"},
    "test_completion.py": {"*": f"some: {_COMPLETION}"},
    "test_ctx_shift.py": {"*": f"{_COMPLETION}; contexts are not shifted"},
    "test_ignore_eos.py": {"*": _COMPLETION},
    "test_infill.py": {"*": f"{_ROUTE} (/infill)"},
    "test_kv_keep_only_active.py": {"*": f"{_PROCESS} (slots)"},
    "test_lora.py": {"*": f"{_PROCESS} (--lora)"},
    "test_mcp_servers.py": {"*": f"some: {_ROUTE} (/tools), {_PROCESS}"},
    "test_metrics.py": {"*": f"{_COMPLETION}; names of metrics are llama.cpp's"},
    "test_proxy.py": {"*": f"{_ROUTE} (/cors-proxy)"},
    "test_rerank.py": {"*": f"{_ROUTE} (/rerank)"},
    "test_router.py": {"*": f"some: {_PROCESS} (its router of several models)"},
    "test_sleep.py": {"*": f"{_PROCESS} (--sleep-idle-seconds)"},
    "test_slot_save.py": {"*": f"{_ROUTE} (/slots); KV is found by name here"},
    "test_speculative.py": {"*": f"{_PROCESS} (draft models)"},
    "test_stream.py": {"*": f"{_ROUTE} (/v1/stream); here Last-Event-ID goes on with a stream"},
    "test_template.py": {"*": f"{_ROUTE} (/apply-template)"},
    "test_tool_call.py": {"*": "some: it names what models of 1 to 8 billion parameters call, by templates of theirs"},
    "test_tools_builtin.py": {"*": f"{_ROUTE} (/tools)"},
    "test_vision_api.py": {"*": "some: images are a 400 here"},
    "test_tokenize.py": {"test_tokenize_with_bos": "SmolLM2 has no begin token, so add_special adds none"},
}  # fmt: skip
