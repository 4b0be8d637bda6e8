"""Sort messages by topic, from five sentences each: python examples/classify_text.py model.onnx "Where is my parcel?"

pip install wordllama, whose package contains a small sentence-embedding model (256 numbers a text, MIT licence).
"""

import sys
from pathlib import Path

import wordllama

import fewshot_sdk as fewshot

EXAMPLES = {
    "delivery": "My parcel has not arrived yet. | Where is my order? | The package was left at the wrong address. | "
    "When will the courier come? | The tracking number does not work.",
    "refund": "I want my money back. | Please cancel my order and refund me. | You charged my card twice. | "
    "How long does a refund take? | I returned it and was not paid back.",
    "praise": "Great service, thank you so much! | I love this product. | Best shop I have ever used. | "
    "The staff were friendly and helpful. | Fantastic quality, I am very happy.",
}

output, *messages = sys.argv[1:]
package = Path(wordllama.__file__).parent  # has the tokenizer, which it would otherwise look for on the Hub
model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
texts = [(text, topic) for topic, several in EXAMPLES.items() for text in several.split(" | ")]
classifier = fewshot.adapt_features(model.embed([text for text, _ in texts]), [topic for _, topic in texts])
fewshot.export_onnx(classifier, output)

predictor = fewshot.Predictor(output)
for message, found in zip(messages, predictor.predict(list(model.embed(messages))), strict=True):
    print(f"{found.label or 'unknown'} ({found.nearest} {found.probability:.0%}): {message}")
