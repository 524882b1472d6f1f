from .program import COMMANDS as COMMANDS, main as main, parser as parser
