Console.Error.WriteLine("bgemetal: no commands yet");
return 2;
